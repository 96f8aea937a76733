"""Say when two texts are the same, and which split a text belongs to, for ever."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

from training.contract import Split

SHOWN_CHARACTERS = 300  # of an example
SHOWN_NAMES = 5  # of labels, in an error
SHOWN_OF_NAME = 100  # characters of one
IDENTITY_DIGITS = 32  # hexadecimal: as much as h0 and h1 of a row hold, 16 each


def normalised(text: str) -> str:
    """:return: the text as it is compared: NFKC, casefolded, every run of whitespace one space, none at the ends."""
    if text.isascii():
        return " ".join(text.lower().split())
    # casefold can undo NFKC (U+0345 becomes a letter that composes); once more makes normalised(normalised(x)) equal
    folded = _nfkc(_nfkc(text).casefold())
    if folded.isprintable() and "  " not in folded and folded.strip() == folded:
        return folded  # no white space but single spaces; looking is cheaper than splitting (measured)
    return " ".join(folded.split())


def _nfkc(text: str) -> str:
    # looking is cheaper than doing (measured)
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)


def text_hash(text: str) -> str:
    """:return: SHA-256 of the normalised text: equal for texts that differ in case, width or spacing alone."""
    return identity(text).hex()


def identity(text: str) -> bytes:
    """:return: SHA-256 of the text as it is compared, 32 bytes. :raises UnicodeEncodeError: not all of it is text."""
    return hashlib.sha256(normalised(text).encode()).digest()


def identity_of(text: str) -> str:
    """:return: by which a forgotten text is known (training.forgotten). :raises UnicodeEncodeError: as ``identity``."""
    return text_hash(text)[:IDENTITY_DIGITS]


def split_of(text: str, test_percent: int, validation_percent: int) -> Split:
    """:return: the split that the text belongs to wherever and whenever it turns up, whatever its label."""
    return split_of_hash(text_hash(text), test_percent, validation_percent)


def split_of_hash(digest: str, test_percent: int, validation_percent: int) -> Split:
    """:param digest: ``text_hash`` of the text."""
    bucket = int(digest, 16) % 100
    if bucket < test_percent:
        return "test"
    return "validation" if bucket < test_percent + validation_percent else "train"


def some(names: Sequence[str]) -> str:
    """:return: the first few of the names, in quotes, and how many more there are."""
    first = ", ".join(repr(shortened(name, SHOWN_OF_NAME)) for name in names[:SHOWN_NAMES])
    return first if len(names) <= SHOWN_NAMES else f"{first} and {len(names) - SHOWN_NAMES:,} more"


def shown(name: str, text: str) -> dict[str, str]:
    """:return: a text that may be somebody's as an example: by the hash of the whole of it, it is found to go."""
    return {name: shortened(text, SHOWN_CHARACTERS), f"{name}_sha256": text_hash(text)}


def shortened(text: str, length: int) -> str:
    """:return: its first ``length`` characters at most; an ellipsis says that there are more."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"
