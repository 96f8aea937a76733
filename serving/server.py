"""Run uvicorn on sockets that others hold, and leave it without failing a request."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.config import STARTUP_FAILURE

if TYPE_CHECKING:
    from serving.app import ServingApp

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75  # longer than the idle time of common clients, so that they close first and see no reset
DRAIN_SECONDS = 5.0  # assumed: a busy keep-alive client sends its next request within this time
STOP_SECONDS = 35  # for what is in flight after that; a little over the deadline of one request
ACCEPT_PAUSE_SECONDS = 1.0  # after a failed accept, usually for want of file descriptors
BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """
    A server that stops in three steps: accept nothing new, answer on open connections, close.

    While it drains, every answer carries ``Connection: close``: a client with a kept-alive connection gets its answer
    and comes back on a new connection, which whoever holds the listening socket accepts.

    It accepts by itself. ``asyncio.Server.close`` loses a connection that was accepted in the same turn of the loop,
    which at a switch under load is a failed request (measured; CPython 3.11, ``Server._attach``).
    """

    def __init__(self, app: ServingApp, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self.app, self.drain_seconds = app, drain_seconds
        self._listeners: set[socket.socket] = set()
        self._arriving: set[asyncio.Task[object]] = set()

    def accept(self, listener: socket.socket) -> None:
        """Take connections from a listening socket, which other processes may do as well."""
        listener.setblocking(False)
        self._listeners.add(listener)
        asyncio.get_running_loop().add_reader(listener, self._take, listener)
        log.info("Accepting on port %s.", listener.getsockname()[1])

    def pause(self, listener: socket.socket) -> None:
        """Leave the socket to others; open connections live on."""
        asyncio.get_running_loop().remove_reader(listener)
        self._listeners.discard(listener)
        log.info("No longer accepting on port %s.", listener.getsockname()[1])

    def _take(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another process was faster
            return
        except OSError as error:
            log.error("Accepting failed: %s.", error)
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume, listener)
            return
        connection.setblocking(False)
        arrival = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._arriving.add(arrival)
        arrival.add_done_callback(self._arriving.discard)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._take, listener)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.servers = []  # none of asyncio's
        for listener in sockets or []:
            self.accept(listener)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        for listener in list(self._listeners):
            self.pause(listener)
            listener.close()  # our handle on it; in other processes it lives on
        self.app.draining = True
        deadline = time.monotonic() + self.drain_seconds
        while (self._arriving or self.server_state.connections) and time.monotonic() < deadline:
            if self.force_exit:
                break
            await asyncio.sleep(0.02)
        await super().shutdown()
