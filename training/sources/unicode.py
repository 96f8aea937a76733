"""Refuse a file in another encoding as a whole, rather than row by row with a puzzling reason."""

from __future__ import annotations

import io
import json

from training.contract import BadInput


def skip_mark(stream: io.BufferedReader, name: str) -> None:
    """
    Go past the byte order mark of UTF-8.

    :raises BadInput: another mark, or zeros within the first letters, say that this is something else.
    """
    encoding = json.detect_encoding(stream.peek(4)[:4])  # of anything that begins with two characters of ASCII
    if not encoding.startswith("utf-8"):
        raise BadInput(f"{name}: by its first bytes this is {encoding.upper()}. Save it as UTF-8.")
    if encoding == "utf-8-sig":
        stream.read(3)
