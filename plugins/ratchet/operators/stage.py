"""What the steps share that run a stage of ``training``: the process, its log and its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.hooks.stage import StageProcess, end_with_worker
from training.contract import BadInput

if TYPE_CHECKING:
    from training.contract import Message

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


def as_bool(value: Any) -> bool:
    """A rendered template is a string; ``"False"`` must not count as true."""
    if isinstance(value, str):
        if value.strip().lower() in ("true", "1", "yes"):
            return True
        if value.strip().lower() in ("false", "0", "no", "none", ""):
            return False
        raise AirflowFailException(f"{value!r} is neither true nor false; nothing was done.")
    return bool(value)


class StageOperator(BaseOperator):
    """
    Run one stage in a process of its own and copy its log into the task's.

    The stage ends with the task, also when the worker is killed. A retry continues what the stage left behind.
    """

    stage: ClassVar[str]

    _process: StageProcess | None = None

    def __init__(self, **kwargs: Any) -> None:
        # each part of the result is an XCom of its own, so that ``step.output["snapshot"]`` names it
        super().__init__(**{"multiple_outputs": True, **kwargs})

    def run_stage(
        self,
        request: Message,
        *,
        stage: str | None = None,
        env: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """
        :raises AirflowFailException: the stage refused its input; it is not retried.
        """
        self._process = StageProcess(
            stage or self.stage,
            request,
            python=settings.training_python(),
            work=settings.work_directory(),
            path=settings.training_path(),
            env=env,
        )
        end_with_worker()
        try:
            result = self._process.run(self._log_line)
        except BadInput as error:
            raise AirflowFailException(str(error)) from error
        if why := result.get("why"):
            self.log.info("%s: %s", stage or self.stage, why)
        return result

    def on_kill(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _log_line(self, line: str) -> None:
        level, _, message = line.partition(" ")
        if level in LEVELS:
            self.log.log(LEVELS[level], "%s", message)
        else:
            self.log.info("%s", line)
