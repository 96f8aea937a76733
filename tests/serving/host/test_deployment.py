"""What a client and an operator see while releases replace each other on an endpoint."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from serving.release import Release, read_release
from tests.serving.conftest import Host, eventually
from tests.serving.releases import seal

BODY = {"inputs": "a very good film"}


def live_digest(url: str) -> str:
    return requests.get(f"{url}/ping", timeout=10).headers["X-Release-Digest"]


def serving_on(host: Host, url: str) -> list[int]:
    """:return: the host's children that hold the socket of ``url``."""
    port = int(url.rsplit(":", 1)[1])
    holds = {pid: psutil.Process(pid).net_connections() for pid in host.children()}
    return [pid for pid, connections in holds.items() if any(c.laddr.port == port for c in connections)]


class SteadyClients:
    """Ask at a steady rate until told to stop; remember every answer and every failure."""

    def __init__(self, url: str, *, keep_alive: bool, clients: int = 4, pause_seconds: float = 0.01) -> None:
        self.url, self.keep_alive, self.pause_seconds = url, keep_alive, pause_seconds
        self.digests: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        session = requests.Session()
        while not self._stop.is_set():
            send: Callable[..., requests.Response] = session.post if self.keep_alive else requests.post
            try:
                answer = send(self.url, json=BODY, timeout=10)
                if answer.ok and len(answer.json()[0]) == 3:
                    self.digests.append(answer.headers["X-Release-Digest"])
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")
            except requests.RequestException as error:
                self.failures.append(repr(error))
            time.sleep(self.pause_seconds)
        session.close()

    def __enter__(self) -> SteadyClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def standing(host: Host, releases: list[Release]) -> str:
    """URL of the endpoint ``standing``, which serves the second release and outlives whatever is tried on it."""
    return host.deployed("standing", releases[1])


def test_no_request_fails_through_two_deployments(host: Host, releases: list[Release]) -> None:
    url = host.deployed("steady", releases[0])
    processes = len(host.children())
    with SteadyClients(url, keep_alive=True) as kept, SteadyClients(url, keep_alive=False) as fresh:
        for release in (releases[1], releases[2]):
            host.deployed("steady", release)
            eventually(lambda: len(host.children()) == processes)  # the old process has drained and ended
            eventually(lambda digest=release.digest: kept.digests[-8:] == fresh.digests[-8:] == [digest] * 8)
    for clients in (kept, fresh):
        assert clients.failures == []
        assert set(clients.digests) == {release.digest for release in releases}


def test_a_release_that_is_live_is_not_deployed_again(host: Host, standing: str, releases: list[Release]) -> None:
    before = host.get("standing")
    children = set(host.children())
    again = host.put("standing", releases[1])
    assert again.status_code == 200
    assert again.json() == before
    assert set(host.children()) <= children


def test_the_same_release_joins_another_is_refused_and_the_previous_one_is_remembered(
    host: Host, releases: list[Release]
) -> None:
    assert host.put("busy", releases[0]).status_code == 202
    assert host.put("busy", releases[0]).status_code == 202
    other = host.put("busy", releases[1])
    assert other.status_code == 409
    assert releases[0].digest in other.json()["error"]
    endpoint = host.settled("busy")
    assert (endpoint["digest"], endpoint["previous"]) == (releases[0].digest, None)
    host.deployed("busy", releases[1])
    assert host.get("busy")["previous"] == {
        "release": releases[0].directory.as_uri(),
        "digest": releases[0].digest,
        "model_digest": releases[0].model_digest,
    }


def test_a_damaged_release_is_refused_and_the_old_one_stays(
    host: Host, standing: str, releases: list[Release], copy_of_release: Path
) -> None:
    (copy_of_release / "openvino" / "model.bin").write_bytes(b"rotten")
    assert host.put("standing", copy_of_release, releases[0].digest).status_code == 202
    endpoint = host.settled("standing")
    assert endpoint["deployment"]["status"] == "failed"
    assert "openvino/model.bin has changed" in endpoint["deployment"]["error"]
    assert endpoint["status"] == "serving"
    assert endpoint["digest"] == live_digest(standing) == releases[1].digest


def test_a_release_of_another_digest_is_refused(host: Host, releases: list[Release]) -> None:
    host.put("mistaken", releases[0], "e" * 64)
    endpoint = host.settled("mistaken")
    assert f"holds release {releases[0].digest}; {'e' * 64} was asked for" in endpoint["deployment"]["error"]
    assert endpoint["status"] == "down"
    assert endpoint["digest"] is None


def test_a_release_that_fails_its_smoke_test_is_dropped_and_the_old_one_stays(
    host: Host, standing: str, releases: list[Release], copy_of_release: Path
) -> None:
    golden = json.loads((copy_of_release / "golden.json").read_text())
    golden["scores"] = [row[1:] + row[:1] for row in golden["scores"]]
    (copy_of_release / "golden.json").write_text(json.dumps(golden))
    seal(copy_of_release)
    children = set(host.children())
    host.put("standing", copy_of_release)
    endpoint = host.settled("standing")
    assert "Golden text" in endpoint["deployment"]["error"]
    assert "Its log ends:" in endpoint["deployment"]["error"]
    assert live_digest(standing) == endpoint["digest"] == releases[1].digest
    assert set(host.children()) <= children


def test_a_release_that_does_not_start_is_dropped_with_the_end_of_its_log(
    host: Host, standing: str, releases: list[Release], copy_of_release: Path
) -> None:
    (copy_of_release / "openvino" / "model.xml").write_text("<net/>")
    seal(copy_of_release)
    host.put("standing", copy_of_release)
    error = host.settled("standing")["deployment"]["error"]
    assert "The server ended with status 2" in error
    assert "cannot be loaded" in error
    assert live_digest(standing) == releases[1].digest


def test_a_process_that_dies_is_started_again_and_nobody_is_refused(
    host: Host, standing: str, releases: list[Release]
) -> None:
    (pid,) = eventually(lambda: len(pids := serving_on(host, standing)) == 1 and pids)
    psutil.Process(pid).send_signal(signal.SIGKILL)
    answer = requests.post(standing, json=BODY, timeout=30)  # waits in the socket that the host holds
    assert answer.ok
    assert answer.headers["X-Release-Digest"] == releases[1].digest
    assert eventually(lambda: host.get("standing")["status"] == "serving")
    assert pid not in host.children()


def test_a_deleted_endpoint_is_gone_with_its_process_and_port(host: Host, releases: list[Release]) -> None:
    url = host.deployed("passing", releases[0])
    (pid,) = serving_on(host, url)
    assert host.call("DELETE", "/endpoints/passing").status_code == 200
    assert host.call("GET", "/endpoints/passing").status_code == 404
    assert pid not in host.children()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/ping", timeout=5)
    assert not (host.state / "endpoints" / "passing.json").exists()


def test_a_release_from_an_object_store_is_copied_checked_and_served(
    tmp_path: Path, release_directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    address, port = store.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    host = Host(tmp_path / "state")
    try:
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="acme")
        directory = release_directories[0]
        for path in directory.rglob("*"):
            if path.is_file():
                s3.upload_file(str(path), "acme", f"releases/one/{path.relative_to(directory).as_posix()}")
        digest = read_release(directory).digest
        body = {"release": "s3://acme/releases/one", "digest": digest}
        assert host.call("PUT", "/endpoints/remote", body).status_code == 202
        endpoint = host.settled("remote")
        assert endpoint["deployment"]["error"] is None
        assert live_digest(endpoint["url"]) == digest
        assert (host.state / "releases" / digest / "release.json").is_file()

        host.call("PUT", "/endpoints/absent", {"release": "s3://acme/releases/two", "digest": digest})
        s3.delete_object(Bucket="acme", Key="releases/one/model/vocab.txt")
        assert "s3://acme/releases/one" in host.get("remote")["release"]
        host.call("DELETE", "/endpoints/absent")
        host.call("DELETE", "/endpoints/remote")
        assert list((host.state / "releases").iterdir()) == []
    finally:
        host.stop()
        store.stop()
