"""Find specs, and the settings that the embedded stack gives them."""

from __future__ import annotations

import os
from pathlib import Path

from ratchet.cli.home import CHECKOUT, has_stack
from ratchet.location import BEHAVIOUR, spec_of
from ratchet.spec import PipelineSpec, load_spec

SUFFIX = ".yaml"


def use_stack_settings() -> None:
    """
    In a checkout, take the embedded stack's store, work directory and interpreter: a plan looks where runs write.

    What the environment says goes first. Installed as a package there is no such stack, and Airflow's settings hold.
    """
    if not has_stack():
        return
    from ratchet.cli.stack.settings import Settings

    stack = Settings.from_environment()
    if stack.training_python.exists():
        os.environ.setdefault("RATCHET_HOME", str(stack.home))
        os.environ.setdefault("AIRFLOW__RATCHET__TRAINING_PYTHON", str(stack.training_python))
        os.environ.setdefault("AIRFLOW__RATCHET__STORE", (stack.home / "store").as_uri())
        os.environ.setdefault("AIRFLOW__RATCHET__WORK", str(stack.home / "work"))
        os.environ.setdefault("AIRFLOW__RATCHET__TRAINING_PATH", str(stack.dags))


def specs_directory() -> Path:
    """:return: ``RATCHET_DAGS``, or ``dags`` here, or ``dags`` in the checkout."""
    if chosen := os.environ.get("RATCHET_DAGS"):
        return Path(chosen)
    here = Path("dags")
    return here if here.is_dir() else CHECKOUT / "dags"


def all_specs() -> list[Path]:
    """:return: the specs of the directory; those that end in .yml too, which are then refused by name."""
    found = (path for path in specs_directory().iterdir() if path.suffix in (SUFFIX, ".yml"))
    return sorted(path for path in found if not path.name.endswith(BEHAVIOUR))


def behaviour_without_spec() -> list[Path]:
    """:return: files of behavioural tests in the directory that belong to no pipeline."""
    return sorted(path for path in specs_directory().glob(f"*{BEHAVIOUR}") if not spec_of(path).exists())


def spec_path(name: str) -> Path:
    """:param name: path of a spec, or a pipeline's name."""
    is_path = "/" in name or name.endswith((SUFFIX, ".yml"))
    return Path(name) if is_path else specs_directory() / f"{name}{SUFFIX}"


def load(name: str) -> PipelineSpec:
    """:raises SpecError: see :func:`ratchet.spec.load_spec`."""
    use_stack_settings()
    return load_spec(spec_path(name))
