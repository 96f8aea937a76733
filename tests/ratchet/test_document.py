from __future__ import annotations

import os
from pathlib import Path

import pytest

from ratchet.document import MAX_BYTES, SpecError, read_document


def read(tmp_path: Path, content: str | bytes):
    path = tmp_path / "it.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_document(path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1e-4", 0.0001),
        ("2.5E-5", 2.5e-5),
        (".5", 0.5),
        ("3.", 3.0),
        ("-3", -3),
        ("010", "010"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e400", "1e400"),
        ("9" * 5000, "9" * 5000),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("=", "="),
    ],
)
def test_plain_words_mean_what_yaml_1_2_says(tmp_path, written, value):
    found = read(tmp_path, f"key: {written}").values["key"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_words_whatever_they_look_like(tmp_path):
    assert read(tmp_path, "1: a\ntrue: b\nnull: c\n<<: d").values == {"1": "a", "true": "b", "null": "c", "<<": "d"}


def test_every_key_and_item_has_its_line(tmp_path):
    document = read(tmp_path, "# comment\na:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert document.lines == {(): 1, ("a",): 2, ("a", "b"): 3, ("a", "c"): 4, ("a", "c", 0): 5, ("a", "c", 1): 6}
    assert document.line(("a", "missing", "below")) == 2


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("- a\n- b", 1, "expected keys and values, found a list"),
        ("hello", 1, "expected keys and values, found a single value"),
        ("a: 1\nb: &x 2\nc: *x", 2, "found a YAML anchor"),
        ("a: 1\nb: *x", 2, "found a YAML alias"),
        ("a: !!python/object/apply:os.system [id]", 1, "found a YAML tag"),
        ("a: 1\n--- \nb: 2", 2, "expected a single document"),
        ("a:\n\tb: 1", 2, "cannot start any token"),
        ("a: 'x\nb: 1\n", 3, "while scanning a quoted scalar"),
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("? [a]\n: 1", 1, "expected a word as key"),
        ("a: 1\nb: \x07", 2, "character 0x7 is not allowed"),
        (b"a: 1\nb: \xff", 2, "not UTF-8: byte 0xff"),
        ("{" * 5000, 1, "nested too deeply"),
        ("#" * (MAX_BYTES + 1), 1, f"a spec has at most {MAX_BYTES}"),
    ],
)
def test_a_file_that_is_no_spec_at_all_is_refused_with_its_line(tmp_path, content, line, message):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, content)
    [problem] = caught.value.problems
    assert problem.line == line
    assert message in problem.message
    assert str(caught.value).startswith(f"{tmp_path / 'it.yaml'}:{line}: ")


def test_a_billion_laughs_are_refused_before_they_unfold(tmp_path):
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))
    with pytest.raises(SpecError, match="found a YAML anchor"):
        read(tmp_path, f"a0: &a0 [lol]\n{levels}")


def test_a_syntax_error_does_not_quote_the_file(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, "password: hunter2\n  x: 'y")
    assert "hunter2" not in str(caught.value)


def test_a_key_given_twice_names_both_lines(tmp_path):
    [problem] = read(tmp_path, "a:\n  b: 1\n  c: 2\n  b: 3\n").problems
    assert (problem.line, problem.key, problem.message) == (4, "a.b", "given twice, first in line 2; leave one.")


@pytest.mark.parametrize(
    ("make", "message"),
    [(Path.mkdir, "a directory"), (lambda path: None, "no such file"), (os.mkfifo, "a pipe, socket or device")],
)
def test_what_is_no_file_is_refused(tmp_path, make, message):
    path = tmp_path / "it.yaml"
    make(path)
    with pytest.raises(SpecError, match=message):
        read_document(path)


def test_a_file_that_is_not_there_may_be_the_one_with_the_nearest_name(tmp_path):
    for name in ("tickets.yaml", "intents.yaml", "ticket.py"):
        (tmp_path / name).touch()
    with pytest.raises(SpecError, match=r"ticket\.yaml:1: no such file\. Did you mean 'tickets'\?$"):
        read_document(tmp_path / "ticket.yaml")
    with pytest.raises(SpecError, match=r"no such file\.$"):
        read_document(tmp_path / "nothing" / "like-it.yaml")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfa: 1").values == {"a": 1}
