"""Refuse a file in another encoding as a whole, rather than row by row with a puzzling reason."""

from __future__ import annotations

import codecs
import io

from training.contract import BadInput

MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}  # UTF-32 little-endian begins like UTF-16


def check_is_utf8(stream: io.BufferedReader, name: str) -> None:
    """:raises BadInput: the byte order mark says it is something else."""
    encoding = MARKS.get(stream.peek(2)[:2])
    if encoding:
        raise BadInput(f"{name}: encoded as {encoding}. Save it as UTF-8.")
