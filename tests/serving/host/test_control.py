from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from serving.release import Release
from tests.serving.conftest import ROOT, TOKEN, Host


def test_every_control_request_needs_the_token(host: Host) -> None:
    for method, path in (
        ("GET", "/endpoints"),
        ("GET", "/endpoints/x"),
        ("PUT", "/endpoints/x"),
        ("DELETE", "/endpoints/x"),
    ):
        for token in ("", "wrong", TOKEN[:-1]):
            answer = host.call(method, path, {}, token=token)
            assert answer.status_code == 401
            assert "error" in answer.json()
    assert requests.get(f"{host.url}/health", timeout=5).status_code == 200


@pytest.mark.parametrize("name", ["Upper", "-leading", "under_score", "dot.dot", "..%2Fescape", "a" * 64, "%20"])
def test_a_name_that_is_no_name_is_refused(host: Host, name: str) -> None:
    body = {"release": "file:///somewhere", "digest": "a" * 64}
    assert host.call("PUT", f"/endpoints/{name}", body).status_code in (400, 404)
    assert all(endpoint["name"] != name for endpoint in host.call("GET", "/endpoints").json())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], "The body must be"),
        ({"release": "file:///x"}, "The body must be"),
        ({"release": "file:///x", "digest": "a" * 64, "force": True}, "The body must be"),
        ({"release": "/x", "digest": "a" * 64}, "release must be a file:// or s3:// URI"),
        ({"release": "https://x/y", "digest": "a" * 64}, "release must be a file:// or s3:// URI"),
        ({"release": "file:///x", "digest": "abc"}, "digest must be 64 hexadecimal characters"),
        ({"release": "file:///x", "digest": 3}, "digest must be 64 hexadecimal characters"),
        ({"release": "file:///x", "digest": "a" * 64, "owner": ""}, "owner must be the name of a registered model"),
    ],
)
def test_a_request_that_cannot_be_deployed_is_refused_before_anything_happens(
    host: Host, body: Any, error: str
) -> None:
    answer = host.call("PUT", "/endpoints/refused", body)
    assert answer.status_code == 400
    assert error in answer.json()["error"]
    assert host.call("GET", "/endpoints/refused").status_code == 404


def test_an_unknown_endpoint_is_404_and_the_known_are_named(host: Host, releases: list[Release]) -> None:
    host.deployed("known", releases[0])
    answer = host.call("DELETE", "/endpoints/unknown")
    assert answer.status_code == 404
    assert "known" in answer.json()["error"]


def test_an_endpoint_stays_with_the_model_that_was_put_there_first_until_it_is_deleted(
    host: Host, releases: list[Release]
) -> None:
    def put(release: Release, **owner: str | None) -> requests.Response:
        body = {"release": release.directory.as_uri(), "digest": release.digest, **owner}
        return host.call("PUT", "/endpoints/owned", body)

    assert put(releases[0]).status_code == 202  # nobody's yet
    assert host.settled("owned")["owner"] is None
    assert put(releases[0], owner="mail").status_code == 200
    before = host.get("owned")
    assert before["owner"] == "mail"
    for release, other in ((releases[1], "chat"), (releases[0], "chat"), (releases[1], None)):
        refused = put(release, owner=other)
        assert refused.status_code == 403
        assert "'owned' belongs to the registered model 'mail'; nothing was changed." in refused.json()["error"]
        assert "DELETE /endpoints/owned" in refused.json()["error"]
    assert host.get("owned") == before
    assert host.call("DELETE", "/endpoints/owned").status_code == 200
    assert put(releases[1], owner="chat").status_code == 202
    assert host.settled("owned")["owner"] == "chat"


def test_the_token_is_in_no_log_and_in_no_process_list(host: Host, releases: list[Release]) -> None:
    host.deployed("discreet", releases[0])
    host.call("GET", "/endpoints", token=TOKEN + "x")
    for pid in (host.process.pid, *host.children()):
        assert TOKEN not in " ".join(psutil.Process(pid).cmdline())
    for log in (host.log, *host.state.rglob("*.log"), *host.state.rglob("*.json")):
        assert TOKEN not in log.read_text()


def test_a_model_server_has_none_of_the_hosts_credentials(
    tmp_path: Path, releases: list[Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "DATABASE": "x://me:hunter2@y",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    host = Host(tmp_path / "state")
    try:
        host.deployed("plain", releases[0])
        (server,) = host.children()
        found = psutil.Process(server).environ()
        assert not {name for name, value in found.items() if "hunter2" in value or value == TOKEN}
        assert (found["OMP_NUM_THREADS"], found["LC_ALL"], found["PATH"]) == ("1", "C.UTF-8", os.environ["PATH"])
    finally:
        host.stop()


def test_a_host_without_a_token_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RATCHET_ENDPOINT_TOKEN", raising=False)
    command = [sys.executable, "-m", "serving.host", "--state", str(tmp_path), "--port", "0"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert found.returncode == 2
    assert "set RATCHET_ENDPOINT_TOKEN" in found.stdout
