"""Refuse a file in another encoding as a whole, rather than row by row with a puzzling reason."""

from __future__ import annotations

import codecs
import io

from training.contract import BadInput

OTHERS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # UTF-32 little-endian begins like UTF-16


def skip_mark(stream: io.BufferedReader, name: str) -> None:
    """
    Go past the byte order mark of UTF-8.

    :raises BadInput: the mark says that this is something else.
    """
    head = stream.peek(3)[:3]
    if encoding := OTHERS.get(head[:2]):
        raise BadInput(f"{name}: encoded as {encoding}. Save it as UTF-8.")
    if head == codecs.BOM_UTF8:
        stream.read(3)
