"""Read Airflow's section ``[ratchet]``: which interpreter runs the stages, and where they keep what they make."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _setting(name: str) -> str | None:
    # The environment first: `ratchet validate` and `ratchet try` then need no initialised Airflow.
    value = os.environ.get(f"AIRFLOW__RATCHET__{name.upper()}")
    if value:
        return value
    from airflow.configuration import conf

    return conf.get("ratchet", name, fallback=None) or None


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().absolute() / "ratchet"


def training_python() -> str:
    return _setting("training_python") or sys.executable


def training_path() -> list[str]:
    """:return: directories of the user's own modules, such as a Trainer subclass, for the stages' import path."""
    return [entry for entry in (_setting("training_path") or "").split(os.pathsep) if entry]


def store_uri() -> str:
    return (_setting("store") or (_home() / "store").as_uri()).rstrip("/")


def work_directory() -> Path:
    return Path(_setting("work") or _home() / "work").expanduser().absolute()
