"""The file of behavioural tests: what it may say, and that an error names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ratchet.behaviour import Directional, File, Invariance, Minimum, load_behaviour
from ratchet.document import SpecError
from ratchet.location import behaviour_path
from ratchet.spec import load_spec
from ratchet.spec.section import Section
from training.behaviour import BehaviourTest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "behaviour.md"

FULL = """\
invariance:
  case: {change: lower}
  names:
    change: names
    names: [Anna, Bob]
    cases: 50
    pass: 0.9
directional:
  anger: {label: pos, must_not: rise, add: " I am furious.", tolerance: 0.1}
  praise:
    label: pos
    must_not: fall
    replace: {bad: good}
    texts: "This is  bad"
minimum:
  greetings:
    label: pos
    texts: ["{greeting} there", Hi]
    fill: {greeting: [Hello, no]}
"""


def loaded(tmp_path, text):
    path = tmp_path / "mail.behaviour.yaml"
    path.write_text(text)
    return load_behaviour(path)


def problems_of(tmp_path, text):
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, text)
    assert all(line.startswith(f"{tmp_path / 'mail.behaviour.yaml'}:") for line in str(caught.value).splitlines())
    return [(p.line, p.key, p.message) for p in caught.value.problems]


def test_every_key_arrives_in_the_tests_of_the_stage(tmp_path):
    assert [BehaviourTest.from_dict(one) for one in loaded(tmp_path, FULL)] == [
        BehaviourTest(name="case", kind="invariance", pass_share=0.95, change="lower"),
        BehaviourTest(name="names", kind="invariance", pass_share=0.9, change="names", names=["Anna", "Bob"], cases=50),
        BehaviourTest(
            name="anger",
            kind="directional",
            pass_share=0.95,
            label="pos",
            must_not="rise",
            add=" I am furious.",
            tolerance=0.1,
        ),
        BehaviourTest(
            name="praise",
            kind="directional",
            pass_share=0.95,
            label="pos",
            must_not="fall",
            replace={"bad": "good"},
            texts=["This is  bad"],
        ),
        BehaviourTest(
            name="greetings",
            kind="minimum",
            pass_share=1.0,
            label="pos",
            texts=["{greeting} there", "Hi"],
            fill={"greeting": ["Hello", "no"]},
        ),
    ]


# line, key, what the message says
BAD = [
    ("", 1, "", "the file is empty; expected at least minimum"),
    ("invariance: {}", 1, "", "no test; expected invariance, directional, minimum"),
    ("invarance: {a: {change: lower}}", 1, "invarance", "did you mean 'invariance'?"),
    ("invariance: [a]", 1, "invariance", "expected keys and values, found a list"),
    ("invariance:\n  a: lower", 2, "invariance.a", 'expected keys and values, found "lower"'),
    ("invariance:\n  a: {}", 2, "invariance.a.change", "missing; expected a value"),
    ("invariance:\n  a: {change: lowr}", 2, "invariance.a.change", "'punctuation' or 'names', found \"lowr\""),
    (
        "invariance:\n  a:\n    change: lower\n    chnge: 1",
        4,
        "invariance.a.chnge",
        "unknown key; did you mean 'change'?",
    ),
    ("invariance:\n  a: {change: lower, pss: 1}", 2, "invariance.a.pss", "did you mean 'pass'?"),
    ("invariance:\n  a: {change: names}", 2, "invariance.a", "expected names: at least two different ones"),
    ("invariance:\n  a: {change: lower, pass: 95}", 2, "invariance.a.pass", "less than or equal to 1, found 95"),
    ("invariance:\n  a: {change: lower, cases: 1001}", 2, "invariance.a.cases", "less than or equal to 1000"),
    ("invariance:\n  a: {change: lower, texts: ['{b}']}", 2, "invariance.a", "expected texts for it in fill"),
    (
        "invariance:\n  a: {change: lower, texts: [1]}",
        2,
        "invariance.a.texts.0",
        "expected text, found 1; put it in quotes",
    ),
    ("directional:\n  a: {label: x, must_not: fall}", 2, "directional.a", "expected either add or replace"),
    ("minimum:\n  a: {label: x}", 2, "minimum.a", "expected texts"),
    ("minimum:\n  a: {label: x, texts: a, label: y}", 2, "minimum.a.label", "given twice"),
    (
        "invariance:\n  a: {change: lower}\nminimum:\n  a: {label: x, texts: a}",
        4,
        "minimum.a",
        "another test has this name",
    ),
]


@pytest.mark.parametrize(("text", "line", "key", "message"), BAD, ids=[f"{b[2]}-{i}" for i, b in enumerate(BAD)])
def test_what_is_wrong_is_named_with_line_key_and_what_was_expected(tmp_path, text, line, key, message):
    found = problems_of(tmp_path, text)
    assert [(at, of) for at, of, says in found if message in says] == [(line, key)], found


def test_the_tests_beside_a_spec_are_its_own(tmp_path):
    spec = tmp_path / "mail.yaml"
    spec.write_text("data: {source: /m.csv, text: message, label: topic}\n")
    assert load_spec(spec, {}).behaviour == []
    behaviour_path(spec).write_text("minimum: {a: {label: x, texts: [y]}}\n")
    assert [one["name"] for one in load_spec(spec, {}).behaviour] == ["a"]
    behaviour_path(spec).write_text("minimum: 1\n")
    with pytest.raises(SpecError, match=r"mail\.behaviour\.yaml:1: minimum: expected keys and values, found 1"):
        load_spec(spec, {})


def test_the_example_on_the_page_is_valid(tmp_path):
    example = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    assert {one["kind"] for one in loaded(tmp_path, example)} == {"invariance", "directional", "minimum"}


@pytest.mark.parametrize("model", [File, Invariance, Directional, Minimum])
def test_every_key_is_on_the_page(model: type[Section]):
    page = PAGE.read_text()
    for name, field in model.model_fields.items():
        assert f"`{field.alias or name}" in page
