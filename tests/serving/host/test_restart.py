"""The endpoint host is stopped, killed and started again; each test leaves it serving for the next."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from serving.release import Release
from tests.serving.conftest import ROOT, Host, eventually


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, releases: list[Release]) -> Iterator[Host]:
    """A host with the endpoint ``kept``, which serves the first release."""
    host = Host(tmp_path_factory.mktemp("kept") / "state")
    host.deployed("kept", releases[0])
    yield host
    host.stop()


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def live_digest(host: Host) -> str:
    """Ask through the endpoint's port; the answer waits in the socket while the server starts."""
    return requests.get(f"{host.get('kept')['url']}/ping", timeout=60).headers["X-Release-Digest"]


def test_state_is_one_readable_file_per_endpoint(kept: Host, releases: list[Release]) -> None:
    record = json.loads((kept.state / "endpoints" / "kept.json").read_text())
    assert record["live"]["digest"] == releases[0].digest
    assert [path.name for path in (kept.state / "endpoints").iterdir()] == ["kept.json"]


def test_a_second_host_on_the_same_state_is_refused(kept: Host) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "serving.host", "--state", str(kept.state), "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "RATCHET_ENDPOINT_TOKEN": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 2
    assert "is in use by another endpoint host" in second.stdout


def test_after_a_stop_a_taken_port_is_reported_and_taken_back_when_it_is_free(
    kept: Host, releases: list[Release]
) -> None:
    url, children = kept.get("kept")["url"], kept.children()
    kept.stop()
    assert gone(children)
    (kept.state / "endpoints" / "torn.json").write_text('{"name": "torn", ')
    with socket.create_server(("127.0.0.1", urlsplit(url).port or 0)):
        kept.start()
        endpoint = kept.get("kept")
        assert endpoint["status"] == "down"
        assert f"port {urlsplit(url).port} cannot be taken" in endpoint["reason"]
    eventually(lambda: kept.get("kept")["status"] == "serving", 60)
    assert kept.get("kept")["url"] == url
    assert live_digest(kept) == releases[0].digest


def test_a_damaged_record_does_not_keep_the_others_down(kept: Host) -> None:
    assert [endpoint["name"] for endpoint in kept.call("GET", "/endpoints").json()] == ["kept"]
    assert "torn.json cannot be read" in kept.log.read_text()
    assert (kept.state / "endpoints" / "torn.damaged").exists()


def test_a_host_killed_in_the_middle_of_a_deployment_takes_its_children_along_and_comes_back_with_the_old_release(
    kept: Host, releases: list[Release]
) -> None:
    url, before = kept.get("kept")["url"], len(kept.children())
    kept.put("kept", releases[1])
    eventually(lambda: len(kept.children()) > before)
    children = kept.children()
    kept.kill()
    eventually(lambda: gone(children))
    kept.start()
    endpoint = kept.get("kept")
    assert endpoint["url"] == url
    assert endpoint["deployment"]["status"] == "failed"
    assert endpoint["deployment"]["error"].startswith("interrupted")
    assert live_digest(kept) == releases[0].digest


def test_the_interrupted_deployment_can_be_done_again(kept: Host, releases: list[Release]) -> None:
    kept.deployed("kept", releases[1])
    assert eventually(lambda: live_digest(kept) == releases[1].digest)
    assert kept.get("kept")["previous"]["digest"] == releases[0].digest
