"""Make a file that is read from its end out of one that cannot be."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import copyfileobj
from typing import IO


@contextmanager
def seekable(stream: io.BufferedReader) -> Iterator[IO[bytes]]:
    """:return: the same content; from disk when it is compressed as a whole."""
    if _is_seekable(stream):
        yield stream
        return
    with tempfile.TemporaryFile(prefix="ratchet-source-") as whole:
        copyfileobj(stream, whole)
        whole.seek(0)
        yield whole


def _is_seekable(stream: io.BufferedReader) -> bool:
    try:
        return stream.seekable()
    except (OSError, ValueError):
        return False
