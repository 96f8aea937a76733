"""Run a stage of ``training`` in a process of its own, under the training environment's interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from training.contract import EXIT_BAD_INPUT, USER_PATH, BadInput, Message

LEFT_BEHIND = ("AIRFLOW", "_AIRFLOW", "MLFLOW_TRACKING_", "RATCHET_ENDPOINT_TOKEN", "PYTHON")
STOP_SECONDS = 3.0  # from SIGTERM to SIGKILL; Airflow itself escalates after 5 s
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class StageFailed(Exception):
    """A stage ended without a result for a reason that a retry may mend."""


class StageProcess:
    """
    One run of one stage.

    The process ends with this one, however this one ends: it watches the pipe that is its stdin.

    :param work: directory for the request, the result and the stage's code path; kept when the stage fails.
    :param path: directories added to the stage's import path.
    :param env: variables added to the stage's environment, such as MLflow's credentials.
    """

    def __init__(
        self,
        stage: str,
        request: Message,
        *,
        python: str,
        work: Path,
        path: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.stage = stage
        self.directory = work / "requests" / f"{stage}-{uuid.uuid4().hex[:12]}"
        self.request = request
        self.command = [python, "-m", "training", stage, "--in", "request.json", "--out", "result.json"]
        self.path = path
        self.env = _stage_environment(env or {})
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False
        self._late = ""  # what to say of a stage that was stopped at its deadline

    def run(self, log: Callable[[str], None], timeout: timedelta | None = None) -> dict[str, Any]:
        """
        :param log: called with every line the stage prints, as it comes.
        :param timeout: after which the stage is stopped; None: never. A step in Airflow has a timeout of its own.
        :return: the stage's result.
        :raises BadInput: the stage refused its input; a retry cannot help.
        :raises StageFailed: anything else that left no result.
        """
        self._prepare()
        try:
            process = subprocess.Popen(
                [*self.command, "--watch-stdin"],
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                start_new_session=True,
            )
        except OSError as error:
            raise BadInput(
                f"The training environment's interpreter {self.command[0]!r} cannot be started ({error}); {self.stage} "
                "did not run. Set [ratchet] training_python."
            ) from error
        self.process = process
        if self.stopped:  # killed between the two lines above
            self._end_group()
        assert process.stdout is not None
        deadline = threading.Timer(timeout.total_seconds(), self._stop_late, [timeout]) if timeout else None
        if deadline:
            deadline.start()
        try:
            for line in process.stdout:
                log(line.rstrip("\n"))
            status = process.wait()
        finally:
            if deadline:
                deadline.cancel()
            self._end_group()
            process.stdout.close()
        return self._outcome(status, log)

    def stop(self) -> None:
        """End the stage because somebody asked for it. Safe to repeat."""
        self.stopped = True
        self._end_group()

    def _stop_late(self, timeout: timedelta) -> None:
        self._late = f"{self.stage} did not end within {timeout.total_seconds():g} s and was stopped."
        self.stop()

    def _end_group(self) -> None:
        """End the whole process group within a few seconds; after a stage's own end, what it left behind."""
        process = self.process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                _signal_group(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=STOP_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)  # children that outlived the leader
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _prepare(self) -> None:
        code = self.directory / "code"
        code.mkdir(parents=True)
        for package in ("training", "serving"):
            spec = find_spec(package)
            if spec is None or not spec.submodule_search_locations:
                raise BadInput(f"The package {package!r} is not importable beside 'ratchet'; {self.stage} did not run.")
            (code / package).symlink_to(Path(spec.submodule_search_locations[0]).resolve())
        self.env["PYTHONPATH"] = str(code)
        self.env[USER_PATH] = os.pathsep.join(self.path)
        (self.directory / "request.json").write_text(self.request.to_json())

    def _outcome(self, status: int, log: Callable[[str], None]) -> dict[str, Any]:
        result = self._read_result()
        if status == 0 and result is not None and "error" not in result:
            shutil.rmtree(self.directory, ignore_errors=True)
            return result
        error = (result or {}).get("error") or "no result was written"
        log(f"ERROR To repeat this stage without Airflow: {self.repeat_command()}")
        if status == EXIT_BAD_INPUT:
            raise BadInput(error)
        if self._late:
            raise StageFailed(self._late)
        if self.stopped and status < 0:
            raise StageFailed(
                f"{self.stage} was stopped ({signal.Signals(-status).name}); a retry continues from there."
            )
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        raise StageFailed(f"{self.stage} failed ({how}): {error}")

    def _read_result(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.directory / "result.json").read_text())
        except FileNotFoundError:
            return None

    def repeat_command(self) -> str:
        own = f"{USER_PATH}={shlex.quote(os.pathsep.join(self.path))} " if self.path else ""
        return f"cd {shlex.quote(str(self.directory))} && {own}PYTHONPATH=code {shlex.join(self.command)}"


def run_stage(
    stage: str,
    request: Message,
    *,
    python: str,
    work: Path,
    log: Callable[[str], None],
    path: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: timedelta | None = None,
) -> dict[str, Any]:
    """Run a stage to its end. :return: its result. Raises as :meth:`StageProcess.run` does."""
    return StageProcess(stage, request, python=python, work=work, path=path, env=env).run(log, timeout)


def end_with_worker() -> None:
    """
    On Linux, let this task be killed when the Airflow worker that watches it dies; its stage then ends by its stdin.

    Otherwise the task notices when it next writes to its log, which took 5 to 13 s (measured). A process that no worker
    watches, such as a DAG's that is tested by hand, is left alone: a task's stdin is a socket to its worker, and its
    process group is its own.
    """
    watched = stat.S_ISSOCK(os.fstat(0).st_mode) and os.getpgrp() == os.getpid()
    if watched and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stage_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What holds Airflow's connections and keys stays behind; a stage is given the little it needs as ``extra``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_BEHIND)}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
