"""Serve one release: ``python -m serving --release DIR --port N``."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import socket
import sys
import threading
from pathlib import Path

# Tokenizers need no torch, yet transformers imports it where it is installed: a second and 200 MB, measured. A None
# here makes it look absent to this process.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would warn that torch is absent

from serving.app import ServerOptions, ServingApp  # noqa: E402
from serving.model import load_model  # noqa: E402
from serving.release import BadRelease, read_release  # noqa: E402
from serving.server import BACKLOG, DRAIN_SECONDS, DrainingServer  # noqa: E402

log = logging.getLogger("serving")

EXIT_BAD_RELEASE = 2
TOKEN_VARIABLE = "RATCHET_ENDPOINT_TOKEN"


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    if options.standby_fd is not None:
        # Before anything slow: a host that is killed while the model loads must not leave this process behind.
        commands = _Commands()
    try:
        listener = _listener(options)
        shared = None if options.standby_fd is None else socket.socket(fileno=options.standby_fd)
        public = shared or listener
        token = None
        if not _is_loopback(public):
            token = os.environ.get(TOKEN_VARIABLE) or None
            if token is None:
                log.error("Not started: %s is not loopback and %s is unset.", public.getsockname()[0], TOKEN_VARIABLE)
                return EXIT_BAD_RELEASE
        release = read_release(options.release)
        model = load_model(release)
    except (BadRelease, OSError) as error:
        log.error("Not started: %s", error)
        return EXIT_BAD_RELEASE
    app = ServingApp(release, model, ServerOptions(token=token))
    server = DrainingServer(app, drain_seconds=options.drain_seconds)
    log.info("Release %s in %s, listening on %s:%s.", release.digest, model.precision, *listener.getsockname()[:2])

    async def serve() -> None:
        if shared is not None:
            commands.follow(server, shared)
        await server.serve([listener])

    asyncio.run(serve())
    return 0


class _Commands:
    """
    Lines on stdin from the endpoint host: ``accept`` and ``pause`` for the shared socket. Its end is the end of us.

    The host holds the write end, so that this process dies with it even when the host was SIGKILLed.
    """

    def __init__(self) -> None:
        self._target: tuple[asyncio.AbstractEventLoop, DrainingServer, socket.socket] | None = None
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def follow(self, server: DrainingServer, shared: socket.socket) -> None:
        self._target = (asyncio.get_running_loop(), server, shared)

    def _read(self) -> None:
        with open(0, "rb", buffering=0, closefd=False) as lines:  # not sys.stdin, whose lock a fork would inherit
            for line in lines:
                if self._target is not None:
                    loop, server, shared = self._target
                    loop.call_soon_threadsafe(server.accept if line.strip() == b"accept" else server.pause, shared)
        os._exit(0)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve one release over HTTP.")
    parser.add_argument("--release", type=Path, required=True, metavar="DIR")
    parser.add_argument("--host", default="127.0.0.1", help=f"beyond loopback, {TOKEN_VARIABLE} must be set")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int)
    where.add_argument("--fd", type=int, help="a listening socket inherited from the parent")
    parser.add_argument(
        "--standby-fd", type=int, help="an inherited socket to accept on when told on stdin; its end ends the server"
    )
    parser.add_argument("--drain-seconds", type=float, default=DRAIN_SECONDS)
    return parser.parse_args(arguments)


def _listener(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


if __name__ == "__main__":
    sys.exit(main())
