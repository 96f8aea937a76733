"""Speak HTTP with clients that may be slow, stuck or hostile, and wait for none of them for ever."""

from __future__ import annotations

import asyncio
import math

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 30.0  # from a connection, or the first byte of a later request, to the end of the headers
KEEP_ALIVE_SECONDS = 75.0  # longer than the idle time of common clients, so that they close first and see no reset
ANSWER_SECONDS = 75.0  # for a client to take what has been written to it
MAX_HEADER_BYTES = 128 * 1024  # assumed: twice what other servers take; httptools itself has no limit


class ImpatientProtocol(HttpToolsProtocol):
    """
    uvicorn's protocol, with a limit on every wait for the client.

    uvicorn itself limits the wait between two requests alone, up to the first byte of the second one. While a request
    is answered, the deadlines are the application's.
    """

    waiting_since = math.inf  # time of the loop; the end of time while a request is answered
    _timer: asyncio.TimerHandle | None = None
    _begun = True  # something of the request came that is waited for; of the first one the connection is enough
    _header_bytes = 0  # received since the end of the last headers or piece of a body
    _has_moved = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.waiting_since = self.loop.time()
        self._give_up_in(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._give_up_in(None)

    def data_received(self, data: bytes) -> None:
        if self.is_waiting and not self._begun:
            self._begun = True
            self._give_up_in(HEADER_SECONDS)
        self._has_moved = False
        super().data_received(data)
        self._header_bytes = 0 if self._has_moved else self._header_bytes + len(data)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._has_moved = True
        self.waiting_since = math.inf
        self._give_up_in(None)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._has_moved = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # otherwise another request had come before this answer was given
            self._begun = False
            self.waiting_since = self.loop.time()
            self._give_up_in(KEEP_ALIVE_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._give_up_in(ANSWER_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._give_up_in(KEEP_ALIVE_SECONDS if self.is_waiting else None)

    @property
    def is_waiting(self) -> bool:
        """:return: whether it is the client's turn to send a request."""
        return self.waiting_since < math.inf

    @property
    def was_served(self) -> bool:
        return self.cycle is not None

    def _give_up_in(self, seconds: float | None) -> None:
        """Abort, rather than close: what a client does not take would keep a closed connection for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
