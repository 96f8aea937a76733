"""What an endpoint survives, with processes that only pretend to serve."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serving.host import endpoint as module
from serving.host.endpoint import PORTS, Endpoint, HostSettings
from serving.host.registry import Registry
from serving.host.state import Deployed, Deployment, EndpointRecord, StateDirectory
from serving.release import Release

OLD, NEW = "a" * 64, "b" * 64


class FakeProcess:
    """Serves as long as nobody ends it."""

    accepting: list[str] = []  # digests, the one that a client would reach last
    starts: list[float] = []  # when each was started
    made: list[FakeProcess] = []
    stop_seconds = 0.0

    def __init__(self, release: Release) -> None:
        self.release, self.url, self.ended = release, "http://pretended", asyncio.Event()
        self.made.append(self)

    @classmethod
    async def start(cls, release: Release, *_: Any, **__: Any) -> FakeProcess:
        cls.starts.append(time.monotonic())
        return cls(release)

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    async def wait_ready(self) -> None: ...

    async def answers(self) -> bool:
        return self.alive

    def accept(self) -> None:
        self.accepting.append(self.release.digest)

    def pause(self) -> None:
        self.accepting.remove(self.release.digest)

    async def wait(self) -> int:
        await self.ended.wait()
        return 1

    async def stop(self) -> None:
        await asyncio.sleep(self.stop_seconds)
        await self.kill()

    async def kill(self) -> None:
        self.ended.set()
        while self.release.digest in self.accepting:
            self.accepting.remove(self.release.digest)

    def log_tail(self) -> str:
        return "Its log is empty."


class ShortLived(FakeProcess):
    """Starts well and dies soon."""

    def accept(self) -> None:
        super().accept()
        self.ended.set()


class FakeCache:
    def __init__(self, *problems: Exception) -> None:
        self.problems = list(problems)

    def fetch(self, _uri: str, digest: str) -> Release:
        if self.problems:
            raise self.problems.pop(0)
        return Release(Path(), digest, digest, ["x"], 8, "openvino")

    def prune(self, keep: set[str]) -> None: ...


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ServingProcess", FakeProcess)
    monkeypatch.setattr(module, "smoke_test", lambda *_, **__: None)
    monkeypatch.setattr(module, "ask", lambda *_, **__: {"release": FakeProcess.accepting[-1]})
    monkeypatch.setattr(FakeProcess, "accepting", [])
    monkeypatch.setattr(FakeProcess, "starts", [])
    monkeypatch.setattr(FakeProcess, "made", [])


def run(root: Path, work: Callable[[Endpoint], Awaitable[None]], cache: FakeCache | None = None) -> None:
    """Do ``work`` with an endpoint whose live release is OLD."""

    async def main() -> None:
        record = EndpointRecord("films", 0, live=Deployed("file:///old", OLD, OLD))
        settings = HostSettings("127.0.0.1", root / "logs", "token")
        endpoint = Endpoint(record, StateDirectory(root), cache or FakeCache(), settings)  # type: ignore[arg-type]
        endpoint.open()
        try:
            await work(endpoint)
        finally:
            await endpoint.close()

    asyncio.run(main())


async def until(check: Callable[[], Any], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)


async def deployed(endpoint: Endpoint, digest: str) -> Deployment:
    endpoint.deploy("file:///new", digest)
    await until(lambda: endpoint.deploying is None)
    assert endpoint.record.deployment is not None
    return endpoint.record.deployment


@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
def test_a_switch_that_cannot_be_saved_puts_the_old_release_back_and_the_next_one_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    save = StateDirectory.save
    failing = True

    def full_disk(state: StateDirectory, record: EndpointRecord) -> None:
        if failing and (always or (record.live and record.live.digest == NEW)):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, record)

    async def work(endpoint: Endpoint) -> None:
        nonlocal failing
        await until(lambda: endpoint.reason is None)
        monkeypatch.setattr(StateDirectory, "save", full_disk)
        failed = await deployed(endpoint, NEW)
        assert (failed.status, failed.error) == ("failed", "OSError: [Errno 28] No space left on device")
        assert FakeProcess.accepting == [OLD]
        assert await endpoint.serves(OLD)
        failing = False
        assert (await deployed(endpoint, NEW)).status == "done"
        assert await endpoint.serves(NEW)
        await until(lambda: FakeProcess.accepting == [NEW])

    run(tmp_path, work)
    (record,) = StateDirectory(tmp_path).load()
    assert record.live is not None
    assert record.live.digest == NEW


def test_an_endpoint_that_is_deleted_as_its_deployment_ends_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProcess, "stop_seconds", 0.2)

    async def work(endpoint: Endpoint) -> None:
        await until(lambda: endpoint.reason is None)
        assert (await deployed(endpoint, NEW)).status == "done"
        await endpoint.close()
        assert [(process.release.digest, process.alive) for process in FakeProcess.made] == [(OLD, False), (NEW, False)]

    run(tmp_path, work)


def test_a_full_disk_leaves_no_unfinished_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = StateDirectory(tmp_path)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        state.save(EndpointRecord("films", 1))
    assert list(state.directory.iterdir()) == []


@pytest.mark.parametrize(("digest", "status"), [(OLD, "done"), (NEW, "failed")])
def test_a_deployment_cut_short_is_done_if_its_release_is_live(tmp_path: Path, digest: str, status: str) -> None:
    state = StateDirectory(tmp_path)
    live = Deployed("file:///old", OLD, OLD)
    state.save(EndpointRecord("films", 1, live=live, deployment=Deployment("file:///any", digest, "switching")))
    (record,) = state.load()
    assert record.deployment is not None
    assert record.deployment.status == status


def test_a_release_that_keeps_dying_is_started_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ServingProcess", ShortLived)
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.05)

    async def work(_endpoint: Endpoint) -> None:
        await until(lambda: len(FakeProcess.starts) >= 6)

    run(tmp_path, work)
    starts = FakeProcess.starts
    pauses = [after - before for before, after in itertools.pairwise(starts)]
    assert pauses == sorted(pauses)
    assert pauses[4] >= 0.8


def test_a_start_that_fails_for_an_unknown_reason_is_tried_again(tmp_path: Path) -> None:
    async def work(endpoint: Endpoint) -> None:
        await until(lambda: endpoint.reason == "RuntimeError: out of luck")
        await until(lambda: endpoint.reason is None)
        assert await endpoint.serves(OLD)

    run(tmp_path, work, FakeCache(RuntimeError("out of luck")))


def test_the_port_is_none_that_an_outgoing_connection_may_take_and_it_is_remembered(tmp_path: Path) -> None:
    async def work(endpoint: Endpoint) -> None:
        assert endpoint.record.port in PORTS
        saved = json.loads((tmp_path / "endpoints" / "films.json").read_text())
        assert saved["port"] == endpoint.record.port

    run(tmp_path, work)


def test_whose_an_endpoint_is_outlives_the_host(tmp_path: Path) -> None:
    async def work(endpoint: Endpoint) -> None:
        endpoint.give_to("mail")
        assert (await deployed(endpoint, NEW)).status == "done"

    run(tmp_path, work)
    (record,) = StateDirectory(tmp_path).load()
    assert record.owner == "mail"


def test_an_endpoint_from_before_there_were_owners_is_nobodys(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.save(EndpointRecord("films", 1, live=Deployed("file:///old", OLD, OLD), owner="mail"))
    file = state.directory / "films.json"
    values = json.loads(file.read_text())
    del values["owner"]
    file.write_text(json.dumps(values))
    (record,) = state.load()
    assert (record.owner, record.live) == (None, Deployed("file:///old", OLD, OLD))


def test_an_endpoint_put_again_while_it_is_deleted_is_there_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProcess, "stop_seconds", 0.2)
    monkeypatch.setattr("serving.host.registry.ReleaseCache", lambda _root: FakeCache())

    async def main() -> None:
        registry = Registry(tmp_path, host="127.0.0.1", token="token")
        await registry.put("films", "file:///old", OLD)
        await until(lambda: registry.endpoints["films"].reason is None)
        deletion = asyncio.create_task(registry.delete("films"))
        again = asyncio.create_task(registry.delete("films"))
        await asyncio.sleep(0.05)
        assert await registry.put("films", "file:///new", NEW) == "started"
        await deletion
        with pytest.raises(KeyError):
            await again
        await until(lambda: registry.endpoints["films"].deploying is None)
        assert await registry.endpoints["films"].serves(NEW)
        assert FakeProcess.accepting == [NEW]
        await registry.close()

    asyncio.run(main())
    (record,) = StateDirectory(tmp_path).load()
    assert record.live is not None
    assert record.live.digest == NEW
