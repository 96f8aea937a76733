"""Write the Python file that makes Airflow see a spec."""

from __future__ import annotations

from pathlib import Path

# Airflow looks for the words "airflow" and "dag" in a file's text and passes over any file without both.
TEMPLATE = """\
# The Airflow DAG {name}, as {name}.yaml says. Written by `ratchet validate`; change the spec, not this file.
from ratchet.factory import pipeline

dag = pipeline(__file__)
"""


def stub_text(name: str) -> str:
    return TEMPLATE.format(name=name)


def write_stub(spec: Path) -> Path | None:
    """
    Write ``NAME.py`` beside ``NAME.yaml``, unless it is there already.

    :return: the file that was written, or None.
    :raises FileExistsError: ``NAME.py`` is there and is not a stub; it is left as it is.
    """
    stub = spec.with_suffix(".py")
    try:
        with stub.open("x", encoding="utf-8") as file:
            file.write(stub_text(spec.stem))
    except FileExistsError:
        if "pipeline(__file__)" not in stub.read_text(encoding="utf-8", errors="replace"):
            raise FileExistsError(
                f"{stub} is there and is not a stub: {spec.name} has no DAG. Rename one of the two."
            ) from None
        return None
    return stub
