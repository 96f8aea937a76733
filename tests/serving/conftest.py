"""Releases of a tiny model, a server in a thread, and an endpoint host in a process of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

import serving.model  # before any import of openvino: keeps its telemetry out
from serving.app import ServerOptions, ServingApp
from serving.batching import Scorer
from serving.release import Release, read_release
from serving.server import DrainingServer
from tests.serving.releases import make_release

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-tests"


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """:return: the first true value of ``check``; exceptions of a server that is not there yet count as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := check():
                return value
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def release_directories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three releases of different models with the same labels."""
    root = tmp_path_factory.mktemp("releases")
    return [make_release(root / str(seed), seed=seed) for seed in (0, 2, 4)]  # seeds whose models give several labels


@pytest.fixture(scope="session")
def releases(release_directories: list[Path]) -> list[Release]:
    return [read_release(directory) for directory in release_directories]


@pytest.fixture
def copy_of_release(release_directories: list[Path], tmp_path: Path) -> Path:
    """A release that a test may damage."""
    return Path(shutil.copytree(release_directories[0], tmp_path / "release"))


@contextmanager
def running(release: Release, scorer: Scorer, **options: Any) -> Iterator[tuple[str, DrainingServer]]:
    """Serve in a thread. :return: URL and server."""
    server = DrainingServer(ServingApp(release, scorer, ServerOptions(**options)), drain_seconds=0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        eventually(lambda: requests.get(f"{url}/ping", timeout=5).ok)
        yield url, server
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="session")
def model(releases: list[Release]) -> serving.model.Model:
    return serving.model.load_model(releases[0])


@pytest.fixture(scope="session")
def url(releases: list[Release], model: serving.model.Model) -> Iterator[str]:
    """The real model behind a real server."""
    with running(releases[0], model, max_body_bytes=20_000) as (url, _):
        yield url


class Host:
    """An endpoint host in a process group of its own."""

    def __init__(self, state: Path, *, port: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = port or free.getsockname()[1]
        self.state, self.log = state, state.parent / "host.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "RATCHET_ENDPOINT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.host", "--state", str(self.state), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        eventually(lambda: requests.get(f"{self.url}/health", timeout=5).ok)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def call(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> requests.Response:
        return requests.request(
            method, self.url + path, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def put(self, name: str, release: Release | Path, digest: str | None = None) -> requests.Response:
        directory = release.directory if isinstance(release, Release) else release
        digest = digest or (release.digest if isinstance(release, Release) else read_release(release).digest)
        return self.call("PUT", f"/endpoints/{name}", {"release": directory.as_uri(), "digest": digest})

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/endpoints/{name}").json()
        return found

    def settled(self, name: str) -> dict[str, Any]:
        """:return: the endpoint after its deployment has ended one way or the other."""
        eventually(lambda: self.get(name)["deployment"]["status"] in ("done", "failed"), 40)
        return self.get(name)

    def deployed(self, name: str, release: Release) -> str:
        """:return: URL of an endpoint that serves ``release``."""
        assert self.put(name, release).status_code in (200, 202)
        endpoint = self.settled(name)
        assert endpoint["deployment"]["error"] is None
        assert endpoint["digest"] == release.digest
        return str(endpoint["url"])

    def children(self) -> list[int]:
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One host for the tests that leave it running; each uses endpoint names of its own."""
    host = Host(tmp_path_factory.mktemp("host") / "state")
    yield host
    host.stop()
