"""Start and stop supervisord, speak to it, and end what it left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from ratchet.cli.stack.programs import MARK, Program, base_environment
from ratchet.cli.stack.settings import Settings, StackError, write_private

STOP_SECONDS = 12  # from SIGTERM to SIGKILL: Airflow gives a task 5 s to run on_kill, a stage 3 s within that
LAUNCH_SECONDS = 60  # supervisord is in the background within a second or two on busy cores (assumed)
LOG_BYTES = "10MB"
LAUNCH = Path(__file__).with_name("launch.py")


class Supervisor:
    """The supervisord of one stack, whether it runs or not."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.configuration_file = settings.run / "supervisord.conf"
        self.programs_file = settings.run / "programs.json"

    def configuration(self, programs: list[Program]) -> str:
        run, logs = self.settings.run, self.settings.logs
        lines = [
            "[unix_http_server]",
            f"file = {_escaped(self.settings.control_socket)}",
            "chmod = 0700",
            "[supervisord]",
            "umask = 077",
            f"directory = {_escaped(self.settings.home)}",
            f"pidfile = {_escaped(run / 'supervisord.pid')}",
            f"logfile = {_escaped(logs / 'supervisord.log')}",
            f"logfile_maxbytes = {LOG_BYTES}",
            "logfile_backups = 1",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for program in programs:
            launch = [sys.executable, "-I", str(LAUNCH), str(self.programs_file), program.name]
            lines += [
                f"[program:{program.name}]",
                f"command = {_escaped(shlex.join(launch))}",
                f"autostart = {str(not program.needs_database).lower()}",
                "autorestart = true",
                "startsecs = 2",
                "startretries = 3",
                f"stopwaitsecs = {STOP_SECONDS}",
                "stopasgroup = true",
                "killasgroup = true",
                "redirect_stderr = true",
                # twice: supervisord 4 expands this one value twice
                f"stdout_logfile = {_escaped(_escaped(self.log_file(program.name)))}",
                f"stdout_logfile_maxbytes = {LOG_BYTES}",
                "stdout_logfile_backups = 2",
            ]
        return "\n".join(lines) + "\n"

    def runs_as_asked(self, programs: list[Program]) -> bool:
        """:return: whether what was last started is what would be started now."""
        try:
            running = self.programs_file.read_text(), self.configuration_file.read_text()
        except FileNotFoundError:
            return False
        return running == (_program_file(programs), self.configuration(programs))

    def log_file(self, program: str) -> Path:
        return self.settings.logs / f"{program}.log"

    def is_running(self) -> bool:
        try:
            return self.call("getState")["statename"] == "RUNNING"
        except OSError:
            return False

    def call(self, method: str, *arguments: Any) -> Any:
        """:raises OSError: supervisord does not answer."""
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.settings.control_socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            transport.close()

    def processes(self) -> dict[str, dict[str, Any]]:
        """:return: by program: ``statename``, ``pid``, ``start``, ``now``, ``spawnerr``."""
        return {process["name"]: process for process in self.call("getAllProcessInfo")}

    def start(self, programs: list[Program]) -> None:
        """Start supervisord with the programs that need no database, and return when it answers."""
        write_private(self.programs_file, _program_file(programs))
        write_private(self.configuration_file, self.configuration(programs))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration_file)],
                env=base_environment(self.settings, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LAUNCH_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            log = self.settings.logs / "supervisord.log"
            raise StackError(f"supervisord did not start within {LAUNCH_SECONDS} s. Read {log}.") from error
        if done.returncode:
            raise StackError(f"supervisord did not start; nothing runs.\n{done.stdout.strip()}")
        deadline = time.monotonic() + 10
        while not self.is_running():  # its socket is open when the command returns; it listens a moment later
            if time.monotonic() > deadline:
                raise StackError(f"supervisord does not answer. Read {self.settings.logs / 'supervisord.log'}.")
            time.sleep(0.05)

    def stop(self) -> None:
        """End every process of this stack, also when supervisord is gone. Safe to repeat."""
        session = self._recorded_session()
        with contextlib.suppress(OSError, xmlrpc.client.Fault):
            self.call("stopAllProcesses")  # all at once; shutdown alone stops one after the other
        with contextlib.suppress(OSError, xmlrpc.client.Fault):
            self.call("shutdown")
        leader = self._leader(session)
        if leader is not None:
            with contextlib.suppress(psutil.TimeoutExpired):
                leader.wait(timeout=5)
        _end(lambda: self.processes_left(session), leader)
        for left in (self.settings.control_socket, self.settings.run / "supervisord.pid"):
            left.unlink(missing_ok=True)

    def processes_left(self, session: int | None = None) -> list[psutil.Process]:
        """
        :param session: of supervisord: shows whose a process is that hides its environment, as Airflow's tasks do.
        :return: what carries this stack's mark: supervisord, its children, and their tasks and stages.
        """
        here = psutil.Process()
        spared = {here.pid, *(parent.pid for parent in here.parents())}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if process.pid not in spared and self._is_marked(process, session):
                    found.append(process)
        return found

    def _is_marked(self, process: psutil.Process, session: int | None) -> bool:
        try:
            return process.environ().get(MARK) == str(self.settings.home)
        except psutil.AccessDenied:
            return process.uids().real == os.getuid() and os.getsid(process.pid) == session

    def _recorded_session(self) -> int | None:
        try:
            return int((self.settings.run / "supervisord.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _leader(self, session: int | None) -> psutil.Process | None:
        """:return: supervisord, if it still runs."""
        try:
            process = psutil.Process(session) if session is not None else None
            return process if process and process.environ().get(MARK) == str(self.settings.home) else None
        except psutil.Error:
            return None


def _end(find: Any, leader: psutil.Process | None) -> None:
    if leader is not None:
        _signal([leader], signal.SIGKILL)  # first, or it would start again what is ended below
    left = find()
    _signal(left, signal.SIGTERM)
    psutil.wait_procs(left, timeout=STOP_SECONDS)
    deadline = time.monotonic() + 10
    while left := find():  # again: a process may have started another while it was being ended
        _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=1)
        if time.monotonic() > deadline:
            raise StackError(f"Processes {[process.pid for process in left]} of the stack cannot be ended.")


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _program_file(programs: list[Program]) -> str:
    every = {
        program.name: {
            "command": program.command,
            "environment": program.environment,
            "inherits": program.inherits,
            "after": program.after,
        }
        for program in programs
    }
    return json.dumps(every, indent=2) + "\n"


def _escaped(value: object) -> str:
    """supervisord expands ``%(name)s`` and takes ``" ;"`` for the start of a comment."""
    text = str(value)
    if " ;" in text or "\n" in text:
        raise StackError(f"supervisord cannot take {text!r}; move the checkout or RATCHET_HOME to a plainer path.")
    return text.replace("%", "%%")
