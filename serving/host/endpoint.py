"""Keep one endpoint serving: its socket, its live process, and the deployment of another release."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import random
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.host.process import ServingProcess, StartFailed
from serving.host.releases import ReleaseCache
from serving.host.state import Deployed, Deployment, DeploymentStatus, EndpointRecord, StateDirectory
from serving.release import BadRelease, Release
from serving.server import BACKLOG
from serving.smoke import SmokeTestFailed, ask, smoke_test

log = logging.getLogger(__name__)

PORTS = range(20_000, 30_000)  # below what systems hand out for outgoing connections while the host is away
BIND_ATTEMPTS = 50
BIND_RETRY_SECONDS = 2.0
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
STABLE_SECONDS = 60.0  # a process that served this long is restarted without delay
PROBE_INTERVAL_SECONDS = 5.0
PROBES_UNTIL_KILL = 6  # assumed: a server that says nothing for half a minute is stuck, not busy
VERIFY_SECONDS = 15.0


@dataclass(frozen=True)
class HostSettings:
    """What all endpoints of a host have in common."""

    host: str  # the address endpoints listen on
    logs: Path
    token: str

    @property
    def inference_token(self) -> str | None:
        """What clients of an endpoint must bring: nothing on loopback."""
        return None if ipaddress.ip_address(self.host).is_loopback else self.token


class Endpoint:
    """
    One name, one port, one live release.

    The listening socket belongs to the host and is inherited by the serving processes, so that the kernel keeps
    connections waiting while processes come and go. ``record.live`` is the truth about what must serve; whatever ends
    the live process, it is started again from there.
    """

    def __init__(
        self, record: EndpointRecord, state: StateDirectory, cache: ReleaseCache, settings: HostSettings
    ) -> None:
        self.record, self.state, self.cache, self.settings = record, state, cache, settings
        self.process: ServingProcess | None = None
        self.reason: str | None = "starting"  # why it is down; None while it serves
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: set[asyncio.Task[None]] = set()  # of processes that no longer serve; these are never cancelled
        self._switching = asyncio.Lock()  # held while the process behind the socket changes
        self._backoff_seconds = 0.0  # before the next start of the live release; grows until one has proved stable

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the port and start what was live. Both are tried until they succeed; neither is waited for."""
        self._bind()
        self._spawn(self._serve())

    def give_to(self, owner: str) -> None:
        """:raises OSError: that could not be saved; it belongs to nobody still."""
        self._save(dataclasses.replace(self.record, owner=owner))

    def deploy(self, uri: str, digest: str) -> None:
        """Start a deployment; ``describe`` tells how it goes. Only while no other is under way."""
        self._report(Deployment(uri, digest, "starting"))
        self._spawn(self._deploy(uri, digest))

    async def serves(self, digest: str) -> bool:
        """:return: whether that release is live and answers right now."""
        process = self.process
        if self.record.live is None or self.record.live.digest != digest or process is None:
            return False
        return self.reason is None and await process.answers()

    def describe(self) -> dict[str, Any]:
        live, deployment = self.record.live, self.record.deployment
        return {
            "name": self.record.name,
            "url": self.url,
            "status": "serving" if self.reason is None else "down",
            "reason": self.reason,
            "owner": self.record.owner,
            "release": live.release if live else None,
            "digest": live.digest if live else None,
            "model_digest": live.model_digest if live else None,
            "previous": dataclasses.asdict(self.record.previous) if self.record.previous else None,
            "deployment": dataclasses.asdict(deployment) if deployment else None,
        }

    @property
    def url(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.record.port}"

    @property
    def logs(self) -> Path:
        return self.settings.logs / self.record.name

    @property
    def deploying(self) -> Deployment | None:
        deployment = self.record.deployment
        return deployment if deployment is not None and deployment.under_way else None

    async def close(self) -> None:
        """Stop accepting, drain the live process and those before it, and give the port back."""
        process, self.process = self.process, None  # first, so that its end is not taken for a crash
        self.reason = "stopped"
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if process is not None:
            self._spawn(process.stop(), self._draining)
        await asyncio.gather(*self._draining, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()

    # -- a deployment ----------------------------------------------------------------------------------------------

    async def _deploy(self, uri: str, digest: str) -> None:
        new: ServingProcess | None = None
        status: DeploymentStatus = "failed"
        error: str | None = "interrupted"
        try:
            release = await asyncio.to_thread(self.cache.fetch, uri, digest)
            new = await self._start(release)
            await new.wait_ready()
            self._report(Deployment(uri, digest, "testing"))
            await asyncio.to_thread(smoke_test, new.url, release, token=self.settings.inference_token)
            self._report(Deployment(uri, digest, "switching"))
            await self._switch(new, Deployed(uri, digest, release.model_digest))
            status, error = "done", None
        except (BadRelease, StartFailed) as failure:
            error = str(failure)
        except SmokeTestFailed as failure:
            error = f"{failure} {new.log_tail()}" if new else str(failure)
        except Exception as failure:
            log.exception("%s: deployment of %s failed.", self.record.name, digest)
            error = f"{type(failure).__name__}: {failure}"
        finally:
            if new is not None and new is not self.process:
                await asyncio.shield(new.kill())
            self._report(Deployment(uri, digest, status, error))

    async def _switch(self, new: ServingProcess, live: Deployed) -> None:
        """
        Put ``new`` behind the endpoint's socket; the old process goes back there if the endpoint does not follow.

        :raises SmokeTestFailed: the endpoint did not report the new digest.
        :raises OSError: the new state could not be saved.
        """
        async with self._switching:
            old = self.process
            new.accept()
            if old is not None:
                old.pause()
            try:
                await self._verify(live.digest)
                before = self.record.live
                previous = before if before is not None and before.digest != live.digest else self.record.previous
                self._save(dataclasses.replace(self.record, live=live, previous=previous))
            except BaseException:
                if old is not None:
                    old.accept()
                raise
            self._backoff_seconds = 0.0
            self._go_live(new)
        if old is not None:
            self._spawn(old.stop(), self._draining)

    async def _verify(self, digest: str) -> None:
        """Ask through the endpoint's own port until it reports ``digest``."""
        deadline = time.monotonic() + VERIFY_SECONDS
        while True:
            try:
                metadata = await asyncio.to_thread(
                    ask, self._local_url, "/metadata", token=self.settings.inference_token, timeout_seconds=5
                )
                found = metadata["release"]
            except SmokeTestFailed as failure:
                found = str(failure)
            if found == digest:
                return
            if time.monotonic() > deadline:
                raise SmokeTestFailed(f"After the switch {self.url} reports {found}; expected {digest}.")
            await asyncio.sleep(0.05)

    @property
    def _local_url(self) -> str:
        wildcard = ipaddress.ip_address(self.settings.host).is_unspecified
        return f"http://127.0.0.1:{self.record.port}" if wildcard else self.url

    def _report(self, deployment: Deployment) -> None:
        log.info("%s: %s %s %s", self.record.name, deployment.digest, deployment.status, deployment.error or "")
        self.record = dataclasses.replace(self.record, deployment=deployment)
        try:
            self.state.save(self.record)
        except OSError as error:  # how a deployment goes must not decide whether it goes on, nor block the next one
            log.error("%s: the deployment's state is not on disk: %s.", self.record.name, error)

    def _save(self, record: EndpointRecord) -> None:
        self.state.save(record)
        self.record = record

    # -- the live process ------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while self._socket is None:
            await asyncio.sleep(BIND_RETRY_SECONDS)
            self._bind()
        if self.record.live is not None:
            await self._revive()
        else:
            self.reason = "nothing has been deployed yet"

    def _bind(self) -> None:
        """Take the endpoint's port: any free one the first time, from then on the same."""
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        for port in [self.record.port] if self.record.port else random.sample(PORTS, BIND_ATTEMPTS):
            try:
                listener = socket.create_server((self.settings.host, port), family=family, backlog=BACKLOG)
            except OSError as error:
                self.reason = f"port {port} cannot be taken ({error.strerror}); trying again"
                continue
            try:
                if port != self.record.port:
                    self._save(dataclasses.replace(self.record, port=port))
            except OSError as error:
                listener.close()
                self.reason = f"the choice of a port cannot be saved ({error.strerror}); trying again"
                break
            listener.setblocking(False)
            self._socket = listener
            return
        log.warning("%s: %s", self.record.name, self.reason)

    async def _start(self, release: Release) -> ServingProcess:
        if self._socket is None:
            raise StartFailed(f"Nothing was started: {self.reason}.")
        log_file = self.logs / f"{release.digest[:12]}.log"
        return await ServingProcess.start(release, self._socket, log_file, token=self.settings.inference_token)

    async def _revive(self) -> None:
        """Start the live release until it serves, or until a deployment has put another process there."""
        while self.process is None and (live := self.record.live) is not None:
            await asyncio.sleep(self._backoff_seconds)
            self._backoff_seconds = min(LAST_BACKOFF_SECONDS, max(FIRST_BACKOFF_SECONDS, self._backoff_seconds * 2))
            process: ServingProcess | None = None
            try:
                release = await asyncio.to_thread(self.cache.fetch, live.release, live.digest)
                process = await self._start(release)
                await process.wait_ready()
                async with self._switching:
                    if self.process is None and self.record.live == live:
                        process.accept()
                        self._go_live(process)
            except (BadRelease, StartFailed, OSError) as error:
                self.reason = str(error)
                log.error("%s: %s", self.record.name, error)
            except Exception as error:  # whatever it was, nobody else starts the release again
                self.reason = f"{type(error).__name__}: {error}"
                log.exception("%s: starting %s failed.", self.record.name, live.digest)
            finally:
                if process is not None and process is not self.process:
                    await asyncio.shield(process.kill())

    def _go_live(self, process: ServingProcess) -> None:
        self.process, self.reason = process, None
        self._spawn(self._watch(process))
        self._spawn(self._probe(process))
        log.info("%s: %s serves on %s", self.record.name, process.release.digest, self.url)

    async def _watch(self, process: ServingProcess) -> None:
        live_since = time.monotonic()
        status = await process.wait()
        if self.process is not process:
            return
        self.process = None
        self.reason = f"the server ended with status {status}; starting it again"
        log.error("%s: %s. %s", self.record.name, self.reason, process.log_tail())
        if time.monotonic() - live_since > STABLE_SECONDS:
            self._backoff_seconds = 0.0
        await self._revive()

    async def _probe(self, process: ServingProcess) -> None:
        silent = 0
        while self.process is process and process.alive:
            silent = 0 if await process.answers() else silent + 1
            if self.process is process and process.alive:
                self.reason = None if silent == 0 else "the server does not answer its health check"
            if silent >= PROBES_UNTIL_KILL:
                log.error("%s: no answer to %d health checks; ending the server.", self.record.name, silent)
                await process.kill()
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._tasks if among is None else among
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._tell_failure)

    def _tell_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s", self.record.name, error, exc_info=error)
