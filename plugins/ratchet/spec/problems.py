"""Say what is wrong with a spec in the words of its file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

from ratchet.document import Document, KeyPath, Problem, dotted
from ratchet.location import ENDPOINT_NAME_RULE

# What the design has and this version has not. A spec that asks for it is refused, never half obeyed.
PLANNED_VALUES: dict[KeyPath, tuple[str, ...]] = {
    ("train", "target"): ("sagemaker", "huggingface"),
    ("deploy", "target"): ("sagemaker", "huggingface"),
}
PATTERNS: dict[KeyPath, str] = {
    ("data", "connection"): "the id of an Airflow connection: letters, digits, _, - and .",
    ("data", "phone_region"): "a country's two capital letters, such as DE",
    ("gate", "baseline"): "majority, or the URL of an endpoint, with nothing secret in it: https://HOST/PATH",
    ("trigger", "new_data", "queue"): "the URL of an SQS queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    ("train", "trainer"): "module:Class",
    ("deploy", "endpoint"): ENDPOINT_NAME_RULE,
    ("notify", "notifier"): "the dotted path of a class: airflow.providers.smtp.notifications.smtp.SmtpNotifier",
}


def problem_of(
    error: Any,
    document: Document,
    keys_beside: Callable[[KeyPath], list[str]],
    belongs_in: Callable[[KeyPath], list[str]] = lambda _loc: [],
) -> Problem:
    """
    One of pydantic's errors in the words of the file.

    :param keys_beside: the valid keys where an unknown one is.
    :param belongs_in: where such a key is valid, if that is elsewhere.
    """
    loc: KeyPath = tuple(part for part in error["loc"] if part != "[key]")
    key, kind, context = dotted(loc), error["type"], error.get("ctx", {})
    found = document.shown(loc)
    if loc == ("data", "source") and isinstance(error["input"], dict):
        message = "expected a path, file://, s3:// or hf://; connection and query are keys beside it."
    elif kind == "literal_error" and error["input"] in PLANNED_VALUES.get(loc, ()):
        message = f"{error['input']!r} is planned and not there yet; expected {context['expected']}."
    elif kind == "extra_forbidden":
        message = f"unknown key; {_meant(loc, keys_beside(loc), belongs_in(loc))}."
    elif error["loc"][-1] == "[key]":
        what = "check" if loc[:2] == ("data", "checks") else "metric"
        message = f"unknown {what}; {nearest(str(error['input']), _quoted(context['expected']))}."
    elif kind == "missing":
        message = "missing; expected " + ("a section." if loc == ("data",) else "a value, it has no default.")
    elif kind in ("model_type", "dict_type"):
        message = f"expected keys and values, found {found}."
    elif kind == "value_error":
        message = f"{context['error']}" + (f", found {found}." if len(loc) > 1 else ".")
    elif kind == "string_pattern_mismatch":
        message = f"expected {PATTERNS[_without_places(loc)]}, found {found}."
    elif kind == "string_type":
        message = f"expected text, found {found}" + (
            "; put it in quotes." if isinstance(error["input"], int | float) else "."
        )
    elif kind == "string_too_short":
        message = "expected some text, found none."
    else:
        message = f"{error['msg'].replace('Input should be', 'expected')}, found {found}."
    return Problem(document.line(loc), key, message)


def _quoted(expected: str) -> list[str]:
    """:return: the words in pydantic's list of what it expected."""
    return re.findall(r"'([^']*)'", expected)


def _without_places(loc: KeyPath) -> KeyPath:
    """:return: the keys alone, without the places in lists."""
    return tuple(part for part in loc if isinstance(part, str))


def _meant(loc: KeyPath, siblings: list[str], elsewhere: list[str]) -> str:
    if elsewhere and not difflib.get_close_matches(str(loc[-1]), siblings, cutoff=0.8):
        return f"it belongs in {' or '.join(elsewhere)}"
    return nearest(str(loc[-1]), siblings)


def nearest(word: str, valid: Iterable[str]) -> str:
    """:return: the valid word that was probably meant, and all of them."""
    valid = list(valid)
    close = [one for one in valid if one.startswith(word)]
    if len(close) != 1:
        close = difflib.get_close_matches(word, valid, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + "valid: " + ", ".join(valid)
