"""Run the local endpoint host: ``python -m serving.host --state DIR --port N``."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
from pathlib import Path

import uvicorn

from serving.host.control import control_app
from serving.host.process import TOKEN_VARIABLE
from serving.host.registry import Registry, StateInUse
from serving.protocol import ImpatientProtocol

log = logging.getLogger("serving.host")

EXIT_BAD_SETTING = 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.host", description="Keep named endpoints serving.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR")
    parser.add_argument("--port", type=int, required=True, help="of the control API")
    parser.add_argument("--host", type=_address, default="127.0.0.1", help="of the control API and of every endpoint")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        log.error("Not started: set %s; every control request must carry it.", TOKEN_VARIABLE)
        return EXIT_BAD_SETTING
    try:
        registry = Registry(options.state.absolute(), host=options.host, token=token)
    except StateInUse as error:
        log.error("Not started: %s", error)
        return EXIT_BAD_SETTING
    log.info("Control API on %s:%d, state in %s.", options.host, options.port, options.state)
    uvicorn.run(
        control_app(registry, token),
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=ImpatientProtocol,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    return 0


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is no IP address") from error


if __name__ == "__main__":
    sys.exit(main())
