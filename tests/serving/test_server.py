"""More connections than there is room for."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from serving import server as server_module
from serving.app import ServingApp
from serving.release import Release
from serving.server import MOST_CONNECTIONS, DrainingServer, connection_limit
from tests.serving.conftest import eventually, running
from tests.serving.test_app import TEXT, SlowScorer, connect
from tests.serving.test_protocol import HALF, PING, answered, seconds_until_closed


def test_connections_leave_files_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, expected in ((200, 150), (1024, 768), (1 << 20, MOST_CONNECTIONS), (-1, MOST_CONNECTIONS)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, files=files: (files, files))
        assert connection_limit() == expected


@pytest.fixture
def room_for(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda number: monkeypatch.setattr(server_module, "connection_limit", lambda: number)


def test_connections_that_never_send_a_request_make_room_before_those_that_did(
    releases: list[Release], room_for: Any
) -> None:
    room_for(8)
    with running(releases[0], SlowScorer(0)) as (url, server), ExitStack() as opened:
        served = opened.enter_context(connect(url))
        served.sendall(PING)
        assert answered(served) == 200
        stuck = [opened.enter_context(connect(url)) for _ in range(30)]
        for connection in stuck:
            connection.sendall(HALF)
        for _attempt in range(5):
            assert requests.post(url, json={"inputs": TEXT}, timeout=5).ok
        assert len(server.server_state.connections) <= 8
        assert seconds_until_closed(stuck[0]) < 1
        served.sendall(PING)
        assert answered(served) == 200


def test_when_every_connection_is_being_answered_one_more_is_told_to_come_back_but_for_its_health(
    releases: list[Release], room_for: Any
) -> None:
    room_for(2)
    with running(releases[0], SlowScorer(1.0)) as (url, server), ThreadPoolExecutor(2) as clients:
        eventually(lambda: not server.server_state.connections)
        busy = [clients.submit(requests.post, url, json={"inputs": TEXT}, timeout=10) for _ in range(2)]
        eventually(lambda: len(server.server_state.tasks) == 2)
        refused = requests.post(url, json={"inputs": TEXT}, timeout=5)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "Too many connections" in refused.json()["error"]
        assert requests.get(f"{url}/ping", timeout=5).ok
        assert all(one.result().ok for one in busy)
        assert requests.post(url, json={"inputs": TEXT}, timeout=5).ok


class ScarceListener(socket.socket):
    """A listener for which there is no file for some time."""

    failures = 3

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_accepting_goes_on_after_files_were_short(
    releases: list[Release], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE_SECONDS", 0.05)
    server = DrainingServer(ServingApp(releases[0], SlowScorer(0)), drain_seconds=0.5)
    listener = ScarceListener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        assert eventually(lambda: requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
    assert [record.getMessage() for record in caplog.records if "Too many open files" in record.getMessage()]
    assert listener.failures == 0
