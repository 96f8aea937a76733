"""Run one stage as a command: JSON in, JSON out, logs on stdout, and an end together with whoever started it."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.contract import EXIT_BAD_INPUT, BadInput, Message, Unreachable
from training.credentials import MaskingStream, masked, refusal
from training.missing import missing_package
from training.room import no_room
from training.visible import visible

log = logging.getLogger(__name__)

EXIT_FAILURE = 1
EXIT_TERMINATED = 128 + signal.SIGTERM  # as a shell reports it
CHATTY = ("botocore", "aiobotocore", "filelock", "fsspec", "httpx", "httpx2", "urllib3")  # a line for each request


def log_to_stdout() -> None:
    """Call it before anything else is imported that logs, so that nobody holds on to a stream that shows secrets."""
    sys.stdout, sys.stderr = (
        MaskingStream(stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
        for stream in (sys.stdout, sys.stderr)
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout, force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def clean_up_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that temporary files go; whoever sent it follows with SIGKILL after a while."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))


def die_with_parent() -> None:
    """
    End this process group when stdin reaches its end.

    The parent holds the write end and never writes; a parent that was SIGKILLed can run no clean-up of its own.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-stdin", daemon=True).start()


def write_result(path: Path, text: str) -> None:
    """Replace a small file: after a kill or a power cut it is the old one or the new one."""
    part = path.with_name(f".part-{path.name}")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def run(stage: Callable[[Any], Message], request_type: type[Message], request: Path, result: Path) -> int:
    """:return: the exit status; the result or the error is in ``result``."""
    try:
        try:
            values = json.loads(request.read_text())
        except ValueError as error:
            raise BadInput(f"{request}: not JSON ({error}).") from error
        made = stage(request_type.from_dict(values))
    except Exception as error:
        return _failed(error, result)
    write_result(result, made.to_json())
    return 0


def _failed(error: Exception, result: Path) -> int:
    """Tell log and ``result`` why. :return: the exit status."""
    final = passing = None
    if isinstance(error, Unreachable):
        passing = str(error)
    else:
        final = str(error) if isinstance(error, BadInput) else refusal(error) or missing_package(error)
        passing = no_room(error)
    if why := final or passing:
        log.error("%s", why)
    else:
        log.exception("The stage failed and may be retried.")
    told = json.dumps({"error": visible(masked(why or f"{type(error).__name__}: {error}"))})
    try:
        write_result(result, told)
    except OSError:  # the disk is full here as well: the log has it
        log.exception("%s was not written.", result)
    return EXIT_BAD_INPUT if final else EXIT_FAILURE
