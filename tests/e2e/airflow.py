"""A real Airflow on loopback, without MLflow and endpoints, whose components can be killed one by one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from ratchet.cli.stack.programs import Program, base_environment, programs
from ratchet.cli.stack.settings import Settings
from tests.servers import GUARD, ROOT, free_port

START_SECONDS = 300  # with every core busy
QUICK = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20"}  # seconds until a killed task is missed


class Airflow:
    """
    The components of the embedded stack that are Airflow's, each in a process group that ends with this process.

    :param dags: folder of its DAGs.
    :param home: everything else is below it.
    """

    def __init__(self, home: Path, dags: Path) -> None:
        self.settings = Settings(home=home, checkout=ROOT, dags=dags)
        self.settings.make_directories()
        ports = {name.upper() + "_PORT": str(free_port()) for name in ("airflow", "mlflow", "endpoints")}
        self.settings.choose_ports(ports)
        self._guards: dict[str, subprocess.Popen[bytes]] = {}
        self._groups: list[int] = []  # of all processes that were ever started
        self._token: str | None = None

    def start(self) -> None:
        """Migrate the database, start every component and wait until it answers."""
        migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(migrate, env=self._environment("api-server"), check=True, capture_output=True, timeout=300)
        self.start_component("api-server")
        assert eventually(lambda: self._answers("/version"), START_SECONDS), self.log("api-server")
        for name in ("dag-processor", "scheduler", "triggerer"):
            self.start_component(name)

    def start_component(self, name: str) -> None:
        """Start it, for the first time or after it was killed."""
        if name in self._guards:
            self._end(self._guards.pop(name))
        with (self.settings.logs / f"{name}.log").open("ab") as log:
            self._guards[name] = subprocess.Popen(
                [sys.executable, "-c", GUARD, *self._program(name).command],
                env=self._environment(name),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._groups.append(self._guards[name].pid)

    def kill(self, name: str, chance: random.Random) -> None:
        """
        SIGKILL the component, or the process that it runs triggers in, without which it ends; its other processes find
        out for themselves. (Of the executor's idle workers none: the others would wait for ever for a lock it held.)
        """
        with contextlib.suppress(psutil.Error, IndexError):
            main = psutil.Process(self._guards[name].pid).children()[0]
            chance.choice([main, *(main.children() if name == "triggerer" else [])]).kill()

    def is_running(self, name: str) -> bool:
        return self._guards[name].poll() is None

    def stop(self) -> None:
        for guard in self._guards.values():
            self._end(guard)
        for group in self._groups:  # the idle workers of a scheduler that was killed outlive it and its guard
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _end(self, guard: subprocess.Popen[bytes]) -> None:
        assert guard.stdin is not None
        guard.stdin.close()  # at its end the guard kills its group
        guard.wait(30)

    def log(self, name: str) -> str:
        return (self.settings.logs / f"{name}.log").read_text(errors="replace")

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the REST API as the admin."""
        url = self.settings.url("airflow")
        if self._token is None:
            login = {"username": "admin", "password": self.settings.passwords["admin"]}
            self._token = _ask("POST", f"{url}/auth/token", login)["access_token"]
        return _ask(method, f"{url}/api/v2{path}", body, self._token)

    def found(self, path: str) -> bool:
        """:return: whether there is such a thing by now."""
        try:
            self.ask("GET", path)
        except urllib.error.HTTPError:
            return False
        return True

    def _answers(self, path: str) -> bool:
        try:
            _ask("GET", f"{self.settings.url('airflow')}/api/v2{path}")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _program(self, name: str) -> Program:
        return next(one for one in programs(self.settings) if one.name == f"airflow-{name}")

    def _environment(self, name: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RATCHET", "PYTEST"))}
        own = self._program(name).environment
        path = os.pathsep.join([own["PYTHONPATH"], str(self.settings.dags)])  # modules of the DAGs' own
        return {**base_environment(self.settings, inherited), **own, **QUICK, "PYTHONPATH": path}


def _ask(method: str, url: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
        return json.loads(response.read())


def eventually(condition: Callable[[], Any], seconds: float) -> Any:
    """:return: the first answer that is true, or the last one."""
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return met
