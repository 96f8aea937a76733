"""Say what a row is worth by itself: whether its text and its label can be used, and why not."""

from __future__ import annotations

import math
import unicodedata
from decimal import Decimal

from training.checks import CHECKS
from training.contract import Checks, Policy

EXAMPLES_PER_REASON = 20

# What can be wrong with a row by itself. The first two are ordinary in real data; the others say that the file is not
# what the spec says it is, once they are many.
EMPTY_TEXT = "empty text"
MISSING_LABEL = "missing label"
NOT_UTF8 = "not valid UTF-8"
NUL = "NUL character"
TEXT_TYPE = "text is not a string"
LABEL_TYPE = "label is not a string, number or boolean"
LABEL_CONTROL = "control character in the label"
UNKNOWN_LABEL = "unknown label"
PERSONAL_DATA = "personal data"
FORGOTTEN = "forgotten"
ORDINARY = {EMPTY_TEXT, MISSING_LABEL, UNKNOWN_LABEL, PERSONAL_DATA, FORGOTTEN, "empty file"}

# what can be wrong with a row beside others
DUPLICATE = "duplicate"
CONFLICT = "same text with another label"
IN_TEST = "text is in the test split"
IN_VALIDATION = "text is in the validation split"
UNTRAINED_LABEL = "label without a training row"
NEW_LABEL = "new label"
RARE_LABEL = "label with too few training rows"
NEARLY_IN_TEST = "text is nearly one in the test split"
NEARLY_DUPLICATE = "text is nearly another one"


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


CHECK_OF = {  # what the spec calls them; any other reason is a row that its format cannot parse
    EMPTY_TEXT: "empty_text",
    MISSING_LABEL: "missing_label",
    NOT_UTF8: "not_utf8",
    NUL: "control_character",
    LABEL_CONTROL: "control_character",
    TEXT_TYPE: "wrong_type",
    LABEL_TYPE: "wrong_type",
    UNKNOWN_LABEL: "unknown_label",
    PERSONAL_DATA: "personal_data",
    FORGOTTEN: "forgotten",
    DUPLICATE: "duplicate",
    CONFLICT: "conflicting_label",
    IN_TEST: "in_test",
    IN_VALIDATION: "duplicate",
    NEW_LABEL: "new_label",
    RARE_LABEL: "rare_label",
    NEARLY_IN_TEST: "near_test",
    NEARLY_DUPLICATE: "near_duplicate",
}


def check_of(reason: str) -> str:
    """:return: the check, a key of ``training.checks.CHECKS``, that a row with this reason does not pass."""
    return CHECK_OF.get(reason, "broken_row")


def policy_of(checks: Checks, check: str) -> Policy:
    """:param check: a key of ``training.checks.CHECKS``."""
    return checks.policies.get(check, CHECKS[check].default)


def policy(checks: Checks, reason: str) -> Policy:
    return policy_of(checks, check_of(reason))
