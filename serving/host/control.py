"""The control API of the endpoint host; its routes are in docs/architecture.md."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.app import is_authorised, read_body
from serving.host.endpoint import Endpoint
from serving.host.registry import NAME, Busy, NotTheOwner, Registry

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_BODY_BYTES = 64 * 1024


def control_app(registry: Registry, token: str) -> Starlette:
    """:return: the application; the endpoints open when it starts and drain when it stops."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ready"})

    async def show_all(_request: Request) -> Response:
        return JSONResponse([endpoint.describe() for _, endpoint in sorted(registry.endpoints.items())])

    async def show(request: Request) -> Response:
        return JSONResponse(_find(registry, request).describe())

    async def put(request: Request) -> Response:
        name = _name(request)
        uri, digest, owner = _release(await read_body(request, MAX_BODY_BYTES))
        try:
            outcome = await registry.put(name, uri, digest, owner)
        except NotTheOwner as error:
            raise HTTPException(403, str(error)) from error
        except Busy as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse(registry.endpoints[name].describe(), 200 if outcome == "live" else 202)

    async def delete(request: Request) -> Response:
        name = _name(request)
        try:
            await registry.delete(name)
        except KeyError as error:
            raise _absent(registry, name) from error
        return JSONResponse({"name": name, "status": "deleted"})

    async def authorise(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.url.path != "/health" and not is_authorised(request.headers, token):
            error = "A bearer token is required: Authorization: Bearer TOKEN."
            return JSONResponse({"error": error}, 401, {"WWW-Authenticate": "Bearer"})
        return await call_next(request)

    async def error(_request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        registry.restore()
        yield
        await registry.close()

    return Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/endpoints", show_all, methods=["GET"]),
            Route("/endpoints/{name}", show, methods=["GET"]),
            Route("/endpoints/{name}", put, methods=["PUT"]),
            Route("/endpoints/{name}", delete, methods=["DELETE"]),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=authorise)],
        exception_handlers={HTTPException: error},
        lifespan=lifespan,
    )


def _find(registry: Registry, request: Request) -> Endpoint:
    name = _name(request)
    try:
        return registry.endpoints[name]
    except KeyError as error:
        raise _absent(registry, name) from error


def _absent(registry: Registry, name: str) -> HTTPException:
    known = ", ".join(sorted(registry.endpoints)) or "none"
    return HTTPException(404, f"There is no endpoint {name!r}; known: {known}.")


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not NAME.fullmatch(name):
        raise HTTPException(400, f"{name!r} is no endpoint name: lower-case letters, digits and hyphens, at most 63.")
    return name


def _release(body: bytes) -> tuple[str, str, str | None]:
    """:return: URI, digest and owner."""
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is not JSON.") from error
    if not isinstance(values, dict) or set(values) - {"owner"} != {"release", "digest"}:
        raise HTTPException(400, 'The body must be {"release": URI, "digest": SHA-256, "owner": NAME or null}.')
    uri, digest, owner = values["release"], values["digest"], values.get("owner")
    if not isinstance(uri, str) or not uri.startswith(("file:///", "s3://")):
        raise HTTPException(400, "release must be a file:// or s3:// URI.")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise HTTPException(400, "digest must be 64 hexadecimal characters.")
    if owner is not None and not (isinstance(owner, str) and owner):
        raise HTTPException(400, "owner must be the name of a registered model, or null.")
    return uri, digest, owner
