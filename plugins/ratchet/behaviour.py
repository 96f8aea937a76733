"""
The behavioural tests of one pipeline, ``NAME.behaviour.yaml`` beside its spec; docs/behaviour.md has all keys.

What a test means, and which of its keys go together, is said in ``training.behaviour``; here is what a file looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from ratchet.document import Document, KeyPath, Problem, SpecError, dotted, read_document
from ratchet.spec.problems import problem_of
from ratchet.spec.section import Name, Section, listed
from training.behaviour import MOST_CASES, BehaviourTest, Change, Kind
from training.contract import BadInput

Texts = Annotated[list[Name], BeforeValidator(listed)]
PASS: Mapping[Kind, float] = {"invariance": 0.95, "directional": 0.95, "minimum": 1.0}  # assumed


class Asked(Section):
    """What every test may say."""

    texts: Texts | None = None
    """Texts to ask, one or a list, instead of those of the test split; `{places}` in them are filled from `fill`."""
    fill: dict[str, Texts] | None = None
    """Place to the texts that fill it: `{card: [card, credit card]}`. All ways are asked, at most 1,000 texts."""
    pass_: float | None = Field(default=None, gt=0, le=1, alias="pass")
    """Share of the cases in which the model must do as it should. Unset: 0.95, and 1.0 in `minimum`."""


class Sampled(Asked):
    """A test that takes texts of the test split when it is given none."""

    cases: int = Field(default=BehaviourTest.cases, ge=1, le=MOST_CASES)
    """Most texts of the test split that are taken, the same ones each time."""


class Invariance(Sampled):
    change: Change
    """`lower` and `upper` case, a `typo` (two neighbouring letters swapped), `punctuation` (the last mark comes or
    goes) or `names` (swapped for others)."""
    names: list[Name] | None = Field(default=None, min_length=2)
    """The names that are swapped, for `change: names`."""


class Directional(Sampled):
    label: Name
    """The label whose probability is watched."""
    must_not: Literal["fall", "rise"]
    """Which way the probability must not go."""
    tolerance: float = Field(default=BehaviourTest.tolerance, ge=0, lt=1)
    """How far it may go that way all the same, from 0 to 1."""
    add: Name | None = None
    """What is written after the text, with its space: `" I am furious."`. Either this or `replace`."""
    replace: dict[str, str] | None = None
    """Word to the word that takes its place: `{good: bad}`."""


class Minimum(Asked):
    label: Name
    """The label that each of the texts has."""


class File(Section):
    invariance: dict[str, Invariance] = {}
    """A change that means nothing must not change the label."""
    directional: dict[str, Directional] = {}
    """A change that means something must not move the probability of a label the wrong way."""
    minimum: dict[str, Minimum] = {}
    """Texts whose label everybody knows."""


SECTIONS: Mapping[Kind, type[Section]] = {"invariance": Invariance, "directional": Directional, "minimum": Minimum}


def load_behaviour(path: Path) -> list[dict[str, Any]]:
    """
    :return: the fields of a ``BehaviourTest`` for each test of the file.
    :raises SpecError: everything that is wrong with it, with lines.
    """
    document = read_document(path, least="minimum: {NAME: {label: ..., texts: [...]}}")
    try:
        checked = File.model_validate(document.values)
    except ValidationError as error:
        problems = [problem_of(each, document, _keys_beside) for each in error.errors(include_url=False)]
        raise SpecError(path, document.problems + problems) from None
    tests = [(kind, name, test) for kind in SECTIONS for name, test in getattr(checked, kind).items()]
    made = [_plain(kind, name, test) for kind, name, test in tests]
    problems = [problem for values in made if (problem := _fault(values, document))]
    names = [name for _kind, name, _test in tests]
    problems += [
        Problem(document.line((kind, name)), f"{kind}.{name}", "another test has this name; give each one of its own.")
        for at, (kind, name, _test) in enumerate(tests)
        if name in names[:at]
    ]
    if not tests:
        problems.append(Problem(1, "", f"no test; expected {', '.join(SECTIONS)}."))
    if problems := document.problems + problems:
        raise SpecError(path, problems)
    return made


def _plain(kind: Kind, name: str, test: Asked) -> dict[str, Any]:
    given = test.model_dump(exclude_none=True)
    return {"name": name, "kind": kind, "pass_share": given.pop("pass_", PASS[kind]), **given}


def _fault(values: dict[str, Any], document: Document) -> Problem | None:
    """:return: what is wrong between the keys of a test."""
    try:
        BehaviourTest.from_dict(values)
    except BadInput as error:
        at = (values["kind"], values["name"])
        told = str(error).removeprefix(f"behaviour test {values['name']!r}: ").removesuffix(" Nothing was judged.")
        return Problem(document.line(at), dotted(at), told)
    return None


def _keys_beside(loc: KeyPath) -> list[str]:
    if len(loc) == 1:
        return list(File.model_fields)
    model = SECTIONS[loc[0]]  # type: ignore[index]  # the file's own sections: others are problems of the first kind
    return [field.alias or name for name, field in model.model_fields.items()]
