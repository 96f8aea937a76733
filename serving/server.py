"""Run uvicorn on sockets that others hold, and leave it without failing a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from serving.app import ServingApp

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75  # longer than the idle time of common clients, so that they close first and see no reset
DRAIN_SECONDS = 5.0  # assumed: a busy keep-alive client sends its next request within this time
STOP_SECONDS = 35  # the whole drain; a little over the deadline of one request
BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """
    A server that stops in three steps: accept nothing new, answer on open connections, close.

    While it drains, every answer carries ``Connection: close``: a client with a kept-alive connection gets its answer
    and comes back on a new connection, which whoever holds the listening socket accepts.
    """

    def __init__(self, app: ServingApp, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self.app, self.drain_seconds = app, drain_seconds
        self._public: asyncio.Server | None = None

    async def accept(self, shared: socket.socket) -> None:
        """Take connections from a socket that other processes may accept on as well."""
        if self._public is None:
            self._public = await asyncio.get_running_loop().create_server(
                lambda: self.config.http_protocol_class(  # type: ignore[call-arg]
                    config=self.config, server_state=self.server_state, app_state=self.lifespan.state
                ),
                sock=shared.dup(),
                backlog=BACKLOG,
            )
            self.servers.append(self._public)
            log.info("Accepting on port %s.", shared.getsockname()[1])

    async def pause(self) -> None:
        """Leave the shared socket to others; open connections live on."""
        if self._public is not None:
            self._public.close()
            self.servers.remove(self._public)
            self._public = None
            log.info("No longer accepting.")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.app.draining = True
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + self.drain_seconds
        with contextlib.suppress(asyncio.CancelledError):
            while self.server_state.connections and time.monotonic() < deadline and not self.force_exit:
                await asyncio.sleep(0.05)
        await super().shutdown(sockets)
