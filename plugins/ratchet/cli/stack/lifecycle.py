"""Bring the stack up, take it down, and say how it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from ratchet.cli.stack.programs import (
    Program,
    airflow_environment,
    base_environment,
    programs,
    replaced_connections,
)
from ratchet.cli.stack.settings import Settings, StackError
from ratchet.cli.stack.supervisor import Supervisor

START_SECONDS = 300  # from the first process to the last answer: 22 s on 2 quiet cores, 93 s on 2 busy ones (measured)
LOCK_SECONDS = 2 * START_SECONDS  # a start that fails at its deadline has processes to end as well
KEPT_DAYS = 14  # a stage that failed can be repeated by hand for so long (assumed)
LOG_LINES_SHOWN = 15

# Never through a proxy: everything is on this machine
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def up(settings: Settings, tell: Callable[[str], None] = print) -> None:
    """
    Start what does not run and return when everything answers. Safe to repeat; a failure leaves no process.

    :raises StackError: a program did not start.
    """
    if not settings.training_python.exists():
        raise StackError(f"{settings.training_python} is missing; nothing was started. Install it with: make install")
    for variable in replaced_connections(os.environ):
        tell(f"{variable} of this shell is not used: the stack has a server of its own in its place.")
    settings.make_directories()
    with _locked(settings):
        supervisor = Supervisor(settings)
        running = supervisor.is_running()
        if running and not _ports_asked_for_differ(settings):
            wanted = programs(settings)
            if supervisor.runs_as_asked(wanted) and _all_answer(supervisor, wanted):
                tell("The stack is up.")
                return
        if running:
            tell("The stack runs, but not as asked or not in full: starting it again.")
        drop_old_requests(settings)
        supervisor.stop()  # also ends what a killed supervisord left behind, and what holds our ports
        settings.choose_ports(os.environ)
        wanted = programs(settings)
        began = time.monotonic()
        try:
            _start(settings, supervisor, wanted, tell)
        except BaseException:
            supervisor.stop()
            raise
        tell(f"The stack is up after {time.monotonic() - began:.0f} s.")


def down(settings: Settings, tell: Callable[[str], None] = print) -> None:
    """End every process of the stack, whoever started it. Safe to repeat."""
    if not settings.run.is_dir():
        tell("The stack is down.")
        return
    with _locked(settings):
        Supervisor(settings).stop()
    tell("The stack is down.")


def status(settings: Settings) -> list[tuple[str, str, str, str, str]]:
    """
    :return: program, state, uptime, process id and address of each program; empty if the stack is down. What runs and
        does not answer is ``not answering``.
    """
    supervisor = Supervisor(settings)
    if not settings.run.is_dir() or not supervisor.is_running():
        return []
    found = supervisor.processes()
    rows = []
    for program in programs(settings):
        process = found[program.name]
        runs = process["statename"] == "RUNNING"
        silent = runs and program.ready is not None and _get(program.ready) is None
        state = "not answering" if silent else process["statename"].lower()
        uptime = str(timedelta(seconds=process["now"] - process["start"])) if runs else "-"
        rows.append((program.name, state, uptime, str(process["pid"] or "-"), program.address or ""))
    return rows


def drop_old_requests(settings: Settings) -> None:
    """Remove what stages that failed long ago left in the work directory to be repeated by hand."""
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for directory in (settings.home / "work" / "requests").glob("*"):
        if directory.stat().st_mtime < oldest:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    """Let one ``up`` or ``down`` at a time change the stack; another waits for it."""
    deadline = time.monotonic() + LOCK_SECONDS
    with (settings.run / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Another up or down has held {lock.name} for {LOCK_SECONDS} s; nothing was changed. "
                        "End it, then try again."
                    ) from None
            time.sleep(0.1)
        yield


def _start(settings: Settings, supervisor: Supervisor, wanted: list[Program], tell: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    started = time.time()
    tell("Starting MLflow, the endpoint host and Airflow ...")
    supervisor.start(wanted)
    in_database = [program for program in wanted if program.needs_database]
    if in_database:
        _migrate(settings)  # while MLflow and the endpoint host start
    for program in in_database:
        supervisor.call("startProcess", program.name, False)
    waiting = list(wanted)
    while waiting:
        processes = supervisor.processes()
        for program in waiting:
            if processes[program.name]["statename"] == "FATAL":
                raise StackError(_last_words(supervisor, program, "ended again and again"))
        waiting = [program for program in waiting if not _answers(program, wanted, started)]
        if waiting and time.monotonic() > deadline:
            raise StackError(_last_words(supervisor, waiting[0], f"did not answer within {START_SECONDS} s"))
        time.sleep(0.1 if waiting else 0)


def _migrate(settings: Settings) -> None:
    """Bring Airflow's database to this version's schema; skipped when that was done before."""
    database, mark = settings.airflow_home / "airflow.db", settings.airflow_home / "migrated"
    release = version("apache-airflow-core")
    if database.exists() and mark.exists() and mark.read_text() == release:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env={**base_environment(settings, os.environ), **airflow_environment(settings)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"Airflow's database {database} was not migrated within {START_SECONDS} s; the stack was stopped. "
            "Try again when the machine is less busy."
        ) from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LOG_LINES_SHOWN:])
        raise StackError(f"Airflow's database {database} could not be migrated; the stack was stopped.\n{said}")
    mark.write_text(release)


def _all_answer(supervisor: Supervisor, wanted: list[Program]) -> bool:
    """Whether everything answers now, or does so soon: a program may be in the middle of a restart."""
    deadline = time.monotonic() + 20
    while not all(_answers(program, wanted, time.time() - 30) for program in wanted):
        failed = any(process["statename"] in ("FATAL", "STOPPED") for process in supervisor.processes().values())
        if failed or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _answers(program: Program, every: list[Program], since: float) -> bool:
    """:param since: Unix time; a heartbeat from before then is another process's."""
    if program.ready:
        return _get(program.ready) is not None
    component = program.heartbeat
    api = next(other.address for other in every if other.name == "airflow-api-server")
    health = _get(f"{api}/api/v2/monitor/health")
    beat = ((health or {}).get(str(component)) or {}).get(f"latest_{component}_heartbeat")
    return beat is not None and datetime.fromisoformat(beat).timestamp() >= since


def _get(url: str) -> dict[str, Any] | None:
    """:return: None if there is no answer of status 200."""
    try:
        with _opener.open(url, timeout=5) as response:
            content = response.read()
    except (OSError, urllib.error.URLError):
        return None
    try:
        return json.loads(content)
    except ValueError:
        return {}


def _ports_asked_for_differ(settings: Settings) -> bool:
    ports = settings.ports
    return any(os.environ.get(f"{name.upper()}_PORT") not in (None, "", str(port)) for name, port in ports.items())


def _last_words(supervisor: Supervisor, program: Program, what: str) -> str:
    file = supervisor.log_file(program.name)
    lines = file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:] if file.exists() else []
    told = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
    return f"{program.name} {what}; the stack was stopped. The end of {file}:\n{told}"
