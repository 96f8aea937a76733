"""Start and stop one serving process, and speak to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import serving
from serving.environment import without_secrets
from serving.release import Release
from serving.server import STOP_SECONDS
from serving.smoke import SmokeTestFailed, ask

START_SECONDS = 120.0  # assumed: twenty times what a 22M-parameter model needs on a busy machine
PROBE_SECONDS = 5.0
LOG_LINES = 15
TOKEN_VARIABLE = "RATCHET_ENDPOINT_TOKEN"


class StartFailed(Exception):
    """A serving process ended or stayed silent before it was ready. The message ends with its log."""


class ServingProcess:
    """
    A child that serves one release on a private loopback port, and on the endpoint's socket when told to.

    It ends when this process does, however that happens: its stdin is a pipe of which we hold the other end.
    """

    def __init__(self, child: asyncio.subprocess.Process, release: Release, port: int, log: Path, offset: int) -> None:
        self.child, self.release, self.log, self._log_offset = child, release, log, offset
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    async def start(cls, release: Release, shared: socket.socket, log: Path, *, token: str | None) -> ServingProcess:
        """:param shared: the endpoint's listening socket. :param token: what clients must bring; None: nothing."""
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = without_secrets(os.environ)
        root = str(Path(serving.__file__).parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        if token is not None:
            environment[TOKEN_VARIABLE] = token  # in the environment: arguments can be read by every user
        with socket.create_server(("127.0.0.1", 0)) as private, log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "serving", "--release", str(release.directory)),
                *("--fd", str(private.fileno()), "--standby-fd", str(shared.fileno())),
                pass_fds=(private.fileno(), shared.fileno()),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a Ctrl-C in the host's terminal is the host's to answer
            )
            return cls(child, release, private.getsockname()[1], log, output.tell())

    @property
    def alive(self) -> bool:
        return self.child.returncode is None

    async def wait_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """:raises StartFailed: it ended, or was not ready in time."""
        deadline = time.monotonic() + timeout_seconds
        while not await self.answers():
            if not self.alive:
                raise StartFailed(f"The server ended with status {self.child.returncode}. {self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"The server was not ready after {timeout_seconds:.0f} s. {self.log_tail()}")
            await asyncio.sleep(0.1)

    async def answers(self) -> bool:
        """:return: whether it says on its private port that it is ready."""
        if not self.alive:
            return False
        try:
            await asyncio.to_thread(ask, self.url, "/ping", timeout_seconds=PROBE_SECONDS)
        except SmokeTestFailed:
            return False
        return True

    def accept(self) -> None:
        """Take connections from the endpoint's socket, beside whoever else does."""
        self._tell(b"accept\n")

    def pause(self) -> None:
        """Leave the endpoint's socket to others and go on with the open connections."""
        self._tell(b"pause\n")

    def _tell(self, line: bytes) -> None:
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError):  # it has ended, which its watcher deals with
            self.child.stdin.write(line)

    async def wait(self) -> int:
        return await self.child.wait()

    async def stop(self) -> None:
        """Let it answer what is in flight, then end it, by force after the drain's deadline."""
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), STOP_SECONDS + 10)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.child.kill()
        await self.child.wait()

    def log_tail(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._log_offset)
            lines = file.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        return "Its log ends: " + "\n".join(lines) if lines else "Its log is empty."
