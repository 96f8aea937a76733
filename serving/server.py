"""Run uvicorn on sockets that others hold, and leave it without failing a request."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import math
import resource
import socket
import sys
import time

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from serving.app import HAS_ROOM, ServingApp
from serving.protocol import KEEP_ALIVE_SECONDS, ImpatientProtocol

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0  # assumed: a busy keep-alive client sends its next request within this time
STOP_SECONDS = 35  # for what is in flight after that; a little over the deadline of one request
ACCEPT_PAUSE_SECONDS = 1.0  # after a failed accept, usually for want of file descriptors
BACKLOG = 2048
MOST_CONNECTIONS = 4096  # assumed: as many as texts may wait; a quiet one takes 6 kB, measured
FILES_FOR_CONNECTIONS = 0.75  # of those that the process may open; the others are the model's and the listeners'
TELL_SECONDS = 60.0  # between two lines about too many connections


def connection_limit() -> int:
    """:return: how many connections this process can hold and still open files."""
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, int(files * FILES_FOR_CONNECTIONS)))


class DrainingServer(uvicorn.Server):
    """
    A server that stops in three steps: accept nothing new, answer on open connections, close.

    While it drains, every answer carries ``Connection: close``: a client with a kept-alive connection gets its answer
    and comes back on a new connection, which whoever holds the listening socket accepts.

    It has room for so many connections. For one more, those go that have kept it waiting longest, before any other
    those that never sent a request; when all are being answered, the new one is told to come back.

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
                http=ImpatientProtocol,
                ws="none",
                timeout_keep_alive=int(KEEP_ALIVE_SECONDS),
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        self.app, self.drain_seconds = app, drain_seconds
        self.most_connections = connection_limit()
        self._told_full = -math.inf
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
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._has_made_room()
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume, listener)
            return
        connection.setblocking(False)
        has_room = self._open_connections < self.most_connections or self._has_made_room()
        protocol = functools.partial(self._protocol, has_room=has_room)
        arrival = loop.create_task(loop.connect_accepted_socket(protocol, connection))
        self._arriving.add(arrival)
        arrival.add_done_callback(self._arriving.discard)

    @property
    def _open_connections(self) -> int:
        return len(self.server_state.connections) + len(self._arriving)

    def _has_made_room(self) -> bool:
        """
        Close connections that are missed least, a few at once: looking for them takes milliseconds.

        :return: whether there were any; all others are being answered.
        """
        now = time.monotonic()
        if now - self._told_full > TELL_SECONDS:
            self._told_full = now
            log.warning("%d connections are open; idle ones are closed to make room.", self._open_connections)
        waiting = [
            connection
            for connection in self.server_state.connections
            if isinstance(connection, ImpatientProtocol)
            and connection.is_waiting
            and not connection.transport.is_closing()
        ]
        waiting.sort(key=lambda one: (one.was_served, one.waiting_since))
        for connection in waiting[: max(1, self.most_connections // 64)]:
            connection.transport.abort()
        return bool(waiting)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._take, listener)

    def _protocol(self, *, has_room: bool) -> asyncio.Protocol:
        return ImpatientProtocol(self.config, self.server_state, {**self.lifespan.state, HAS_ROOM: has_room})

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
