"""Put texts that come from data into Markdown, where none of their characters may be markup. Standard library only."""

from __future__ import annotations

import re

LINKED = re.compile(r"://|www\.|@", re.IGNORECASE)  # what Markdown readers make a link of without any markup
MARKUP = re.compile(r"([\\`*_{}\[\]<>#+!|~&$^-])")


def code(text: str) -> str:
    """:return: the text as a code span, in a cell of a table as well."""
    # of a backslash before a pipe some readers make an escaped backslash, and end the cell at the pipe
    line = re.sub(r"(\\*)\|", r"\1\1\\|", " ".join(text.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def sentence(text: str) -> str:
    """:return: the text as one line of prose; a word that holds an address as a code span."""
    return " ".join(code(word) if LINKED.search(word) else MARKUP.sub(r"\\\1", word) for word in text.split())
