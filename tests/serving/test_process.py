"""``python -m serving`` as SageMaker's, compose's or a person's supervisor runs it."""

from __future__ import annotations

import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from serving.release import Release
from tests.serving.conftest import ROOT, TOKEN, eventually


@contextmanager
def served(*arguments: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving", *arguments], cwd=ROOT, stdout=output, stderr=output, **options
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_at_sigterm_an_open_connection_gets_its_answer_first(releases: list[Release], tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--release", str(releases[0].directory), "--port", str(port))
    with served(*arguments, log=tmp_path / "log") as process, requests.Session() as session:
        eventually(lambda: requests.get(f"{url}/ping", timeout=5).ok)
        assert session.post(url, json={"inputs": "a secret film"}, timeout=5).ok
        process.terminate()
        time.sleep(0.3)
        last = session.post(url, json={"inputs": "a secret film"}, timeout=5)
        assert (last.status_code, last.headers["Connection"]) == (200, "close")
        assert process.wait(timeout=5) in (0, -signal.SIGTERM)
    assert "secret" not in (tmp_path / "log").read_text()


def test_an_idle_connection_does_not_hold_up_the_end(releases: list[Release], tmp_path: Path) -> None:
    port = free_port()
    arguments = ("--release", str(releases[0].directory), "--port", str(port), "--drain-seconds", "0.5")
    with served(*arguments, log=tmp_path / "log") as process, requests.Session() as session:
        eventually(lambda: session.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok)
        process.terminate()
        process.wait(timeout=4)


def test_a_socket_can_be_inherited(releases: list[Release], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        fd = listener.fileno()
        arguments = ("--release", str(releases[0].directory), "--fd", str(fd))
        with served(*arguments, log=tmp_path / "log", pass_fds=(fd,)):
            assert requests.get(f"{url}/ping", timeout=20).ok


def test_more_half_requests_than_files_do_not_stop_the_server(releases: list[Release], tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--release", str(releases[0].directory), "--port", str(port))
    few_files = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (200, 200))
    with served(*arguments, log=tmp_path / "log", preexec_fn=few_files), ExitStack() as opened:
        eventually(lambda: requests.get(f"{url}/ping", timeout=5).ok)
        for _ in range(260):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost:")
        for _attempt in range(10):
            assert requests.post(url, json={"inputs": "a film"}, timeout=2).ok
    log = (tmp_path / "log").read_text()
    assert "150 connections are open" in log
    assert "Accepting failed" not in log


def test_a_damaged_release_is_not_served_and_the_log_says_why(copy_of_release: Path, tmp_path: Path) -> None:
    (copy_of_release / "model" / "tokenizer.json").unlink()
    arguments = ("--release", str(copy_of_release), "--port", str(free_port()))
    with served(*arguments, log=tmp_path / "log") as process:
        assert process.wait(timeout=20) == 2
    log = (tmp_path / "log").read_text()
    assert "model/tokenizer.json is missing" in log
    assert "Traceback" not in log


def test_beyond_loopback_it_starts_only_with_a_token_and_then_asks_for_it(
    releases: list[Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    arguments = ("--release", str(releases[0].directory), "--port", str(port), "--host", "0.0.0.0")
    monkeypatch.delenv("RATCHET_ENDPOINT_TOKEN", raising=False)
    with served(*arguments, log=tmp_path / "log") as process:
        assert process.wait(timeout=20) == 2
    assert "0.0.0.0 is not loopback and RATCHET_ENDPOINT_TOKEN is unset" in (tmp_path / "log").read_text()

    environment = {**os.environ, "RATCHET_ENDPOINT_TOKEN": TOKEN}
    url = f"http://127.0.0.1:{port}"
    with served(*arguments, log=tmp_path / "log", env=environment) as process:
        eventually(lambda: requests.get(f"{url}/ping", timeout=5).ok)
        assert requests.post(url, json={"inputs": "a film"}, timeout=5).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.post(url, json={"inputs": "a film"}, headers=right, timeout=5).ok
    assert TOKEN not in (tmp_path / "log").read_text()
