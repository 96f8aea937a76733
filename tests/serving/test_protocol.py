"""Clients that are slow, stuck or hostile, against the real server."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests
import uvicorn

from serving import protocol
from serving.release import Release
from tests.serving.conftest import eventually, running
from tests.serving.test_app import TEXT, SlowScorer, connect

PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /ping HTTP/1.1\r\nHost:"


@pytest.fixture
def url(releases: list[Release], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.4)
    with running(releases[0], SlowScorer(0)) as (url, _):
        yield url


def answered(connection: socket.socket) -> int:
    """:return: the status of the next answer, which is read to its end."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def seconds_until_closed(connection: socket.socket) -> float:
    started = time.monotonic()
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", b"\r\n", HALF], ids=["nothing", "an empty line", "half a header"])
def test_a_connection_without_a_whole_request_is_closed(url: str, sent: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(sent)
        assert seconds_until_closed(connection) < 2


@pytest.mark.parametrize("sent", [b"\r\n", HALF], ids=["an empty line", "half a header"])
def test_a_later_request_has_no_more_time_than_the_first(url: str, sent: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(PING)
        assert answered(connection) == 200
        time.sleep(0.6)  # an idle connection may stay longer
        connection.sendall(PING)
        assert answered(connection) == 200
        connection.sendall(sent)
        assert seconds_until_closed(connection) < 2


def test_headers_that_come_byte_by_byte_have_no_more_time_than_others(url: str) -> None:
    with connect(url) as connection:
        started = time.monotonic()
        with suppress(ConnectionError):
            for byte in HALF * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - started < 2


def test_an_idle_connection_is_closed_in_the_end(releases: list[Release], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "KEEP_ALIVE_SECONDS", 0.4)
    with running(releases[0], SlowScorer(0)) as (url, _), connect(url) as connection:
        connection.sendall(PING)
        assert seconds_until_closed(connection) < 2


def test_bodies_and_answers_have_more_time_than_headers(
    releases: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    body = json.dumps({"inputs": TEXT}).encode()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with running(releases[0], SlowScorer(0.6)) as (url, _), connect(url) as connection:
        for _request in range(2):
            connection.sendall(head)
            time.sleep(0.6)
            connection.sendall(body)
            assert answered(connection) == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 4_000_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 4_000_000,
        b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 600_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + b"X: x\r\n" * 600_000,
    ],
    ids=["path", "one header", "many headers", "trailers"],
)
def test_headers_without_end_are_not_gathered(
    releases: list[Release], monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    with running(releases[0], SlowScorer(0)) as (url, _), connect(url) as connection:
        started = time.monotonic()
        with suppress(ConnectionError):
            connection.sendall(head)
            seconds_until_closed(connection)
        assert time.monotonic() - started < 4


def test_an_answer_that_comes_before_the_end_of_a_large_body_does_not_end_the_connection(url: str) -> None:
    with requests.Session() as session:
        for _request in range(3):
            answer = session.post(f"{url}/predict", data=b"x" * 3_000_000, timeout=5)
            assert answer.status_code == 404


@contextmanager
def serving_app(app: Callable[..., Any]) -> Iterator[tuple[str, uvicorn.Server]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=protocol.ImpatientProtocol, ws="none", log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: server.run([listener]))
        thread.start()
        eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(timeout=10)


@pytest.mark.parametrize("header", [b"Connection: close", b"Connection: keep-alive"])
@pytest.mark.parametrize("requests_", [1, 3])
def test_a_client_that_never_takes_its_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, header: bytes, requests_: int
) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.4)
    monkeypatch.setattr(protocol, "KEEP_ALIVE_SECONDS", 0.4)

    async def large(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _part in range(20):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        await send({"type": "http.response.body"})

    with serving_app(large) as (url, server), connect(url) as connection:
        connection.sendall((b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n") * requests_)
        eventually(lambda: server.server_state.connections, 5)
        eventually(lambda: not server.server_state.connections, 5)
