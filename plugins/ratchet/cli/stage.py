"""Run a stage from the command line, with the interpreter and the directories that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ratchet import settings
from ratchet.hooks import stage as hook
from training.contract import Message


def run_stage(
    stage: str, request: Message, log: Callable[[str], None], timeout: timedelta | None = None
) -> dict[str, Any]:
    """:return: the stage's result. Raises as :func:`ratchet.hooks.stage.run_stage` does."""
    return hook.run_stage(
        stage,
        request,
        python=settings.training_python(),
        path=settings.training_path(),
        work=settings.work_directory(),
        log=log,
        timeout=timeout,
    )
