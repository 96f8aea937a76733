"""Check the JSON of an inference request and say precisely what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

from serving.model import ScoreFunction

MAX_TEXTS = 1024  # per request; larger sets belong in several requests, which are batched together anyway
PARAMETERS = ("function_to_apply", "top_k", "truncation")
SHOWN_NAMES = 5
SHOWN_CHARACTERS = 100


class BadRequest(Exception):
    """The request cannot be answered as it stands. Its texts never appear in the message."""


@dataclass(frozen=True)
class Query:
    """What one request asks for."""

    texts: list[str]
    single: bool  # one bare string rather than a list
    top_k: int | None = None  # None: every label
    has_top_k: bool = False
    function: ScoreFunction | None = None  # None: the model's own
    truncation: bool = True


def parse_query(body: bytes) -> Query:
    """
    Accept ``{"inputs": "text" or ["text", ...], "parameters": {...}}``.

    The key ``options`` (caching and waiting at Hugging Face's own servers) is accepted and has no effect here.

    :raises BadRequest: the body is anything else.
    """
    try:
        values = json.loads(body)
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise BadRequest(f'The body is {_kind(values)}; expected an object like {{"inputs": "a text"}}.')
    unknown = sorted(set(values) - {"inputs", "parameters", "options"})
    if unknown:
        raise BadRequest(f"Unknown keys {_shown(unknown)}; valid: inputs, parameters.")
    if "inputs" not in values:
        raise BadRequest('"inputs" is missing; expected a text or a list of texts.')
    texts, single = _texts(values["inputs"])
    return Query(texts, single, **_parameters(values.get("parameters")))


def _texts(inputs: Any) -> tuple[list[str], bool]:
    if isinstance(inputs, str):
        return [_text(inputs, "inputs")], True
    if not isinstance(inputs, list):
        raise BadRequest(f'"inputs" is {_kind(inputs)}; expected a text or a list of texts.')
    if not inputs:
        raise BadRequest('"inputs" is an empty list; send at least one text.')
    if len(inputs) > MAX_TEXTS:
        raise BadRequest(f'"inputs" has {len(inputs)} texts; at most {MAX_TEXTS} per request.')
    return [_text(text, f"inputs[{i}]") for i, text in enumerate(inputs)], False


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{where} is {_kind(value)}; expected a text.")
    if not value.strip():  # ingest drops them, so the model's answer would mean nothing
        raise BadRequest(f"{where} is blank; the model never learned what an empty text means.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{where} holds half a surrogate pair at character {error.start}.") from error
    return value


def _parameters(parameters: Any) -> dict[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f'"parameters" is {_kind(parameters)}; expected an object.')
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise BadRequest(f"Unknown parameters {_shown(unknown)}; valid: {', '.join(PARAMETERS)}.")
    wanted: dict[str, Any] = {}
    if "top_k" in parameters:
        top_k = parameters["top_k"]
        if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
            raise BadRequest("top_k must be a whole number of at least 1, or null for every label.")
        wanted |= {"top_k": top_k, "has_top_k": True}
    function = parameters.get("function_to_apply")
    if function is not None:
        if function not in get_args(ScoreFunction):
            raise BadRequest(f"function_to_apply must be one of {', '.join(get_args(ScoreFunction))}, or null.")
        wanted["function"] = function
    truncation = parameters.get("truncation")
    if truncation is not None:
        if not isinstance(truncation, bool):
            raise BadRequest("truncation must be true (cut long texts, as in training) or false (refuse them).")
        wanted["truncation"] = truncation
    return wanted


def _shown(names: list[str]) -> str:
    """:return: the names, or the beginning of the first of them: an answer must not be as large as the request."""
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return f"{[shortened(name) for name in names[:SHOWN_NAMES]]}{more}"


def shortened(text: str) -> str:
    """:return: the text, or its beginning, to be repeated in an answer."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
