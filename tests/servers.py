"""Real servers on loopback for tests: started in a group of their own, always stopped, also when pytest is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Runs a command and ends its whole group when stdin does; what ends the command politely is the command's to answer
GUARD = (
    "import signal, subprocess, sys; from training.stage import die_with_parent; "
    "signal.signal(signal.SIGTERM, lambda *_: None); die_with_parent(); "
    "sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))"
)
QUIET = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def training_python() -> str:
    """:return: the training environment's interpreter; the test is skipped where there is none."""
    python = Path(os.environ.get("RATCHET_TRAINING_PYTHON") or ROOT / ".venv-training" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"no training environment: {python} does not exist (make test creates it)")
    return str(python)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], url: str, log: Path, env: dict[str, str] | None = None, grace_seconds: float = 10
) -> Iterator[subprocess.Popen]:
    """
    Run a server until the block ends.

    :param grace_seconds: from SIGTERM to SIGKILL.
    :raises RuntimeError: ``url`` does not answer within a minute.
    """
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **(env or {})}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", GUARD, *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[:4]} does not answer on {url}:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=grace_seconds)
        process.stdin.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextlib.contextmanager
def mlflow_server(directory: Path) -> Iterator[str]:
    """:return: the tracking URI of a server with a database and artifacts below ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        *(training_python(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"),
        *("--default-artifact-root", (directory / "artifacts").as_uri(), "--no-serve-artifacts"),
    ]
    with running(command, f"http://127.0.0.1:{port}/health", directory / "mlflow.log"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def s3_server(directory: Path, users: dict[str, tuple[dict[str, str], list[str]]]) -> Iterator[str]:
    """
    SeaweedFS, which checks signatures and what a user may do; the test is skipped where it is not installed.

    :param users: name to AWS's variables and actions, such as ``Read:BUCKET``.
    :return: the endpoint's URL.
    """
    weed = Path(training_python()).with_name("weed")
    if not weed.exists():
        pytest.skip(f"no SeaweedFS: {weed} does not exist (training/requirements-dev.txt)")
    (directory / "data").mkdir(parents=True)
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}],
            "actions": actions,
        }
        for name, (keys, actions) in users.items()
    ]
    (directory / "users.json").write_text(json.dumps({"identities": identities}))
    services = ("master", "volume", "filer", "s3")
    ports = {f"-{name}.port{kind}": free_port() for name in services for kind in ("", ".grpc")}
    command = [
        *(str(weed), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory / 'data'}"),
        *(f"{option}={port}" for option, port in ports.items()),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={directory / 'users.json'}"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=50"),
    ]
    url = f"http://127.0.0.1:{ports['-s3.port']}"
    with running(command, f"{url}/healthz", directory / "s3.log", grace_seconds=0.5):  # it waits for clients
        yield url


@contextlib.contextmanager
def postgres_server() -> Iterator[int]:
    """:return: the port of a PostgreSQL with the user ``ratchet``; the test is skipped where it is not installed."""
    if shutil.which("initdb") is None:
        pytest.skip("PostgreSQL is not installed (initdb, postgres, psql)")
    place = tempfile.mkdtemp(prefix="ratchet-postgres-")  # not pytest's folder, which is closed to other users
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        as_user = ["setpriv", "--reuid=nobody", "--clear-groups"]
        shutil.chown(place, "nobody")
    data, port = f"{place}/data", free_port()
    made = [*as_user, "initdb", "-D", data, "-A", "trust", "-U", "ratchet"]
    subprocess.run(made, check=True, capture_output=True, cwd="/")
    server = subprocess.Popen(
        [*as_user, "postgres", "-D", data, "-p", str(port), "-k", place, "-h", "127.0.0.1"],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        asked = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "ratchet", "-d", "postgres", "-c", "SELECT 1"]
        while subprocess.run(asked, capture_output=True).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer on port {port}")
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(place)


@contextlib.contextmanager
def endpoint_host(directory: Path, token: str) -> Iterator[int]:
    """:return: the port of the control API."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [training_python(), "-m", "serving.host", "--state", str(directory / "state"), "--port", str(port)]
    with running(command, f"http://127.0.0.1:{port}/health", directory / "host.log", {"RATCHET_ENDPOINT_TOKEN": token}):
        yield port
