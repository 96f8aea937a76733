"""
Answer the routes of SageMaker's and Hugging Face's endpoints for one release.

The shapes follow the servers that the clients were written against:

==============================  ==========================================  =================================
request                         ``POST /invocations``                       ``POST /``
==============================  ==========================================  =================================
one text, no ``top_k``          ``[best]``                                  ``[[every label, best first]]``
many texts, no ``top_k``        ``[best, best, ...]``                       ``[[every label], ...]``
one text, ``top_k`` N or null   ``[first, second, ...]``                    ``[[first, second, ...]]``
many texts, ``top_k``           ``[[first, ...], ...]``                     ``[[first, ...], ...]``
==============================  ==========================================  =================================

where each entry is ``{"label", "score"}``. ``/invocations`` is what SageMaker's containers answer: they hand ``inputs``
and ``parameters`` to transformers' text-classification pipeline. ``/`` is what the clients of Hugging Face's
``text_classification`` task read; for them ``top_k`` only limits the answer. ``top_k`` beyond the number of labels
gives all of them.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.batching import Batcher, Overloaded, Scorer, TooLong
from serving.model import apply_function, default_function
from serving.query import BadRequest, Query, parse_query, shortened

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from serving.release import Release

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 6 * 1024 * 1024  # what SageMaker's InvokeEndpoint long allowed; 1,024 texts of 6,000 characters
DISCARDED_BYTES = 64 * 1024 * 1024  # of a body over the limit: read and dropped, so that the client sees the answer
OPEN_PATHS = ("/ping", "/health")  # load balancers and supervisors carry no token, and must see a busy server as alive
HAS_ROOM = "has_room"  # in a request's state: whether the server has room for its connection


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How the server treats its clients."""

    token: str | None = None  # required on every route but the health checks; None: nobody is asked
    deadline_seconds: float = 30.0  # of one request, from its first byte to its answer; SageMaker itself gives 60
    max_body_bytes: int = MAX_BODY_BYTES


class ServingApp:
    """
    The ASGI application for one warmed-up model.

    ``draining`` makes every answer ask its client to open a new connection next time, which a newer server accepts.
    """

    def __init__(self, release: Release, scorer: Scorer, options: ServerOptions | None = None) -> None:
        self.release, self.options = release, options or ServerOptions()
        self.draining = False
        self.batcher = Batcher(scorer, max_length=release.max_length)
        self._default_function = default_function(release)
        routes = [
            Route("/ping", self.health, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metadata", self.metadata, methods=["GET"]),
            Route("/invocations", self.invocations, methods=["POST"]),
            Route("/", self.classify, methods=["POST"]),
        ]
        known = ", ".join(f"{'/'.join(sorted((route.methods or set()) - {'HEAD'}))} {route.path}" for route in routes)

        def error(request: Request, problem: Exception) -> Response:
            assert isinstance(problem, HTTPException)
            detail = problem.detail
            if problem.status_code in (404, 405):
                detail = f"{request.method} {shortened(request.url.path)} is not served here; routes: {known}."
            return JSONResponse({"error": detail}, problem.status_code, problem.headers)

        def crash(_request: Request, _problem: Exception) -> Response:
            return JSONResponse({"error": "The server failed on this request; its log says why."}, 500)

        starlette = Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: error, Exception: crash}
        )
        starlette.router.redirect_slashes = False
        self._app: ASGIApp = starlette

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        self.batcher.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_digests(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Model-Digest"] = self.release.model_digest
                headers["X-Release-Digest"] = self.release.digest
                if self.draining:
                    headers["Connection"] = "close"
            await send(message)

        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send_with_digests)

    def _refusal(self, scope: Scope) -> Response | None:
        """:return: the answer to a request that is not looked at; None: it is."""
        if scope["path"] in OPEN_PATHS:
            return None
        if self.options.token is not None and not is_authorised(Headers(scope=scope), self.options.token):
            error = "A bearer token is required: Authorization: Bearer TOKEN."
            return JSONResponse({"error": error}, 401, {"WWW-Authenticate": "Bearer", "Connection": "close"})
        if not scope["state"].get(HAS_ROOM, True):
            error = "Too many connections are open; try again."
            return JSONResponse({"error": error}, 503, {"Retry-After": "1", "Connection": "close"})
        return None

    async def health(self, _request: Request) -> Response:
        """200: the application is only made of a model that has answered its warm-up, and its thread lives."""
        if not self.batcher.alive:
            return JSONResponse({"error": "The thread that runs the model has ended; restart the server."}, 503)
        return JSONResponse({"status": "ready"})

    async def metadata(self, _request: Request) -> Response:
        release = self.release
        return JSONResponse(
            {
                "release": release.digest,
                "model_digest": release.model_digest,
                "labels": release.labels,
                "max_length": release.max_length,
                "runtime": release.runtime,
            }
        )

    async def invocations(self, request: Request) -> Response:
        query = await self._read(request)
        scores = await self._scores(request, query)
        if query.has_top_k:
            ranked = [self._ranked(row, query.top_k) for row in scores]
            return JSONResponse(ranked[0] if query.single else ranked)
        return JSONResponse([self._ranked(row, 1)[0] for row in scores])

    async def classify(self, request: Request) -> Response:
        query = await self._read(request)
        return JSONResponse([self._ranked(row, query.top_k) for row in await self._scores(request, query)])

    def _ranked(self, row: NDArray[np.float32], top_k: int | None) -> list[dict[str, Any]]:
        order = np.argsort(-row, kind="stable")[:top_k]  # the pipeline's order: equal scores by id
        return [{"label": self.release.labels[i], "score": float(row[i])} for i in order]

    async def _read(self, request: Request) -> Query:
        content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HTTPException(415, f"Content-Type is {shortened(content_type)!r}; send application/json.")
        try:
            async with asyncio.timeout(self.options.deadline_seconds):
                body = await read_body(request, self.options.max_body_bytes)
        except TimeoutError as error:
            raise HTTPException(408, "The body did not arrive in time.", {"Connection": "close"}) from error
        try:
            return parse_query(body)
        except BadRequest as error:
            raise HTTPException(400, str(error)) from error

    async def _scores(self, request: Request, query: Query) -> NDArray[np.float32]:
        answer = asyncio.create_task(
            self.batcher.logits(
                query.texts, deadline_seconds=self.options.deadline_seconds, truncation=query.truncation
            )
        )
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise HTTPException(400, "The connection ended before the answer.")
            logits = answer.result()
        except TooLong as error:
            where = "inputs" if query.single else f"inputs[{error.index}]"
            raise HTTPException(
                400,
                f"{where} has {error.tokens} tokens, the model takes {self.release.max_length}; "
                "shorten it or leave truncation on.",
            ) from error
        except Overloaded as error:
            raise HTTPException(503, "Too many texts are waiting; try again.", {"Retry-After": "1"}) from error
        except TimeoutError as error:
            waited = f"No answer within {self.options.deadline_seconds:g} s; try again."
            raise HTTPException(503, waited, {"Retry-After": "1"}) from error
        finally:
            answer.cancel()  # texts that nobody waits for leave the queue
            gone.cancel()
        return apply_function(query.function or self._default_function, logits)


async def _disconnected(request: Request) -> None:
    """Return when the client of a request that was read to its end has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """
    Read a body without ever holding more than the limit.

    :raises HTTPException: 413, also for a body whose length was not announced.
    """
    body = bytearray()
    size = 0
    announced = request.headers.get("content-length", "")
    too_large = announced.isdecimal() and int(announced) > limit_bytes
    if not (too_large and request.headers.get("expect", "").lower() == "100-continue"):
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    too_large = True
                    body.clear()
                if size > DISCARDED_BYTES:
                    break
                if not too_large:
                    body += chunk
        except ClientDisconnect as error:
            raise HTTPException(400, "The connection ended before the body.") from error
    if too_large:
        raise HTTPException(413, f"The body is over {limit_bytes:,} bytes.", {"Connection": "close"})
    return bytes(body)


def is_authorised(headers: Headers, token: str) -> bool:
    """
    Compare in constant time, so that answers do not tell how much of a guess was right.

    The scheme's case does not matter: https://www.rfc-editor.org/rfc/rfc9110#section-11.1.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip(" ").encode(), token.encode())
