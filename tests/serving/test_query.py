from __future__ import annotations

import json
from typing import Any

import pytest

from serving.query import MAX_TEXTS, BadRequest, parse_query


def parse(inputs: Any = "a film", **parameters: Any) -> Any:
    return parse_query(json.dumps({"inputs": inputs, "parameters": parameters}).encode())


def test_one_text_and_many_are_told_apart() -> None:
    assert parse("a").single
    assert not parse(["a"]).single
    assert parse(["a", "b"]).texts == ["a", "b"]


def test_an_absent_top_k_is_not_a_null_top_k() -> None:
    assert not parse().has_top_k
    assert parse(top_k=None).has_top_k
    assert parse(top_k=2).top_k == 2


def test_options_of_the_hub_are_accepted() -> None:
    assert parse_query(b'{"inputs": "a", "options": {"wait_for_model": true}}').texts == ["a"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "The body is a list"),
        (b"{}", '"inputs" is missing'),
        (b'{"input": "a"}', r"Unknown keys \['input'\]; valid: inputs, parameters"),
        (b'{"inputs": null}', '"inputs" is null'),
        (b'{"inputs": {"text": "a"}}', '"inputs" is an object'),
        (b'{"inputs": []}', "empty list"),
        (b'{"inputs": ["a", 3]}', r"inputs\[1\] is a number"),
        (b'{"inputs": ["a", ["b", "c"]]}', r"inputs\[1\] is a list"),
        (b'{"inputs": ["a", "b", " \\n"]}', r"inputs\[2\] is blank"),
        (b'{"inputs": "a\\ud800"}', "half a surrogate pair at character 1"),
        (b'{"inputs": "a", "parameters": [1]}', '"parameters" is a list'),
        (
            b'{"inputs": "a", "parameters": {"topk": 1}}',
            r"Unknown parameters \['topk'\]; valid: function_to_apply, top_k, truncation",
        ),
        (b'{"inputs": "a", "parameters": {"top_k": 0}}', "top_k must be a whole number of at least 1"),
        (b'{"inputs": "a", "parameters": {"top_k": -1}}', "top_k must be"),
        (b'{"inputs": "a", "parameters": {"top_k": 1.5}}', "top_k must be"),
        (b'{"inputs": "a", "parameters": {"top_k": true}}', "top_k must be"),
        (b'{"inputs": "a", "parameters": {"top_k": NaN}}', "top_k must be"),
        (b'{"inputs": "a", "parameters": {"function_to_apply": "relu"}}', "one of softmax, sigmoid, none"),
        (b'{"inputs": "a", "parameters": {"function_to_apply": ["softmax"]}}', "one of softmax, sigmoid, none"),
        (b'{"inputs": "a", "parameters": {"truncation": "longest_first"}}', "truncation must be true"),
        (json.dumps({"inputs": ["a"] * (MAX_TEXTS + 1)}).encode(), f"at most {MAX_TEXTS}"),
    ],
)
def test_each_kind_of_bad_request_says_what_is_wrong(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_query(body)


@pytest.mark.parametrize("where", ["{%s}", '{"inputs": "a", "parameters": {%s}}'])
def test_of_unknown_names_the_first_are_shown_and_the_others_counted(where: str) -> None:
    names = ", ".join(f'"name {i:05} {"x" * 1000}": 1' for i in range(50_000))
    with pytest.raises(BadRequest) as refused:
        parse_query((where % names).encode())
    message = str(refused.value)
    assert "'name 00004 xxx" in message
    assert "and 49,995 more; valid: " in message
    assert len(message) < 1000
