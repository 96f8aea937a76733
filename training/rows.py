"""Say what a row is worth by itself: whether its text and its label can be used, and why not."""

from __future__ import annotations

import math
import unicodedata
from datetime import date
from decimal import Decimal

from training.reasons import EMPTY_TEXT, LABEL_CONTROL, LABEL_TYPE, MISSING_LABEL, NOT_UTF8, NUL, TEXT_TYPE


class Unusable(Exception):
    """The reason why a row is dropped."""


def text_of(value: object) -> str:
    """:raises Unusable: there is nothing to learn from."""
    if isinstance(value, bytes):  # Parquet of writers that do not mark text as text
        value = _decoded(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unusable(EMPTY_TEXT)
    if not isinstance(value, str):
        raise Unusable(TEXT_TYPE)
    if "\0" in value:
        raise Unusable(NUL)
    if value[:1].isalnum():  # as most texts: at least this can be seen
        return value
    if not any(unicodedata.category(character) not in _INVISIBLE for character in value):
        raise Unusable(EMPTY_TEXT)
    return value


_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # control, format (zero-width), spaces and separators
_JOINERS = "\u200c\u200d"  # format characters that some scripts and emoji are spelt with


def label_of(value: object) -> str:
    """
    Name a label as a person would write it: true and false, integers without a point (a nullable integer column often
    comes as 1.0), strings composed (NFC), without the spaces around them and without characters that nobody sees.

    :raises Unusable: there is none, or it names nothing.
    """
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, str):
        label = unicodedata.normalize("NFC", value)
        if not label.isprintable():
            label = "".join(c for c in label if c in _JOINERS or unicodedata.category(c) != "Cf")
        label = label.strip()
        if not label:
            raise Unusable(MISSING_LABEL)
        if not label.isprintable():
            _check_label(label)
        return label
    if value is None or (isinstance(value, float | Decimal) and not math.isfinite(value)):
        raise Unusable(MISSING_LABEL)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal) and value == int(value):
        return str(int(value))
    if isinstance(value, int | float | Decimal):
        return str(value)
    raise Unusable(LABEL_TYPE)


def kept_of(value: object) -> str | None:
    """
    Write down a value that stays with its row (``data.keep``) as a label of this value is written, a date as ISO 8601
    has it; white space of any kind is one space.

    :return: None: there is no value, or it is none that a label could have. Never empty, and without a NUL.
    """
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        value = " ".join(value.split())
    try:
        return label_of(value)
    except Unusable:
        return None


def _check_label(label: str) -> None:
    categories = {unicodedata.category(character) for character in label}
    if "Cs" in categories:  # what an undecodable byte, or half of a character in JSON, was read as
        raise Unusable(NOT_UTF8)
    if "Cc" in categories:
        raise Unusable(LABEL_CONTROL)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unusable(NOT_UTF8) from None
