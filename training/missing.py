"""Tell a training environment that is installed by half from an error in what it runs."""

from __future__ import annotations

import sys
from pathlib import Path

OURS = {"training", "serving"}
PACKAGES = {"phonenumbers": "phonenumberslite", "sklearn": "scikit-learn", "stdnum": "python-stdnum"}  # by module


def missing_package(error: BaseException | None) -> str | None:
    """:return: which package the environment lacks, and what to do; None: it is something else."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__  # not the context: a library may have looked for what it can do without
    if error is None or not error.name or (module := error.name.partition(".")[0]) in OURS:
        return None
    here = Path(__file__).resolve().parent
    install = f"{sys.executable} -m pip install -r {here / 'requirements.txt'} -c {here / 'requirements.lock'}"
    return (
        f"The training environment lacks the package {PACKAGES.get(module, module)} ({error}). Nothing was done. "
        f"Install what it needs: {install}"
    )
