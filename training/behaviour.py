"""
Test how a model behaves, after CheckList (Ribeiro et al. 2020, https://aclanthology.org/2020.acl-main.442).

Invariance: a change that means nothing must not change the label. Directional: a change that means something must not
move a label's probability the wrong way. Minimum functionality: texts whose label everybody knows. Which texts are
asked depends on the tests and on the test set alone, never on chance or on an order.
"""

from __future__ import annotations

import logging
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from training.contract import BadInput, Message
from training.text import SHOWN_CHARACTERS, shown, text_hash

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

MOST_CASES = 1000  # of one test: two texts each, under a second with 22M parameters on two cores (docs/decisions.md)
MOST_EXAMPLES = 20  # of failures
FILLED = re.compile(r"\{(\w+)\}")  # a place in a template
ENDS = ".!?…"

Kind = Literal["invariance", "directional", "minimum"]
Change = Literal["lower", "upper", "typo", "punctuation", "names"]
CHANGES = get_args(Change)

Scorer = Callable[[Sequence[str]], "np.ndarray"]  # texts to probabilities, (n_texts, n_labels)


@dataclass(frozen=True, kw_only=True)
class BehaviourTest(Message):
    """:raises BadInput: a key that this kind of test has not, or one that it lacks. The message names the test."""

    name: str
    kind: Kind
    pass_share: float  # of the cases that must not fail
    cases: int = 200  # most texts of the test split that are taken; assumed
    texts: list[str] | None = None  # instead of the test split's, perhaps with {places}
    fill: dict[str, Any] | None = None  # place to the texts that fill it
    change: Change | None = None  # of invariance
    names: list[str] | None = None  # for ``change: names``
    label: str | None = None  # whose probability is watched; of a minimum the right one
    add: str | None = None  # of directional: what is written after the text
    replace: dict[str, str] | None = None  # or which words become which
    must_not: Literal["fall", "rise"] | None = None
    tolerance: float = 0.05  # of the probability; assumed

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise BadInput(f"behaviour test {self.name!r}: {fault}. Nothing was judged.")

    def _fault(self) -> str | None:
        wanted = {"invariance": {"change"}, "directional": {"label", "must_not"}, "minimum": {"label", "texts"}}
        given = {name for name in ("change", "label", "must_not") if getattr(self, name) is not None}
        needed = wanted[self.kind]
        if missing := sorted(name for name in needed if getattr(self, name) is None):
            return f"expected {', '.join(missing)} beside what is there"
        if surplus := sorted(given - needed):
            return f"a test of {self.kind} has no {', '.join(surplus)}"
        if self.kind == "directional" and (self.add is None) == (self.replace is None):
            return "expected either add or replace"
        if self.change == "names" and len(set(self.names or ())) < 2:
            return "expected names: at least two different ones"
        if not 0 < self.pass_share <= 1:
            return f"pass is {self.pass_share!r}; expected a number above 0, at most 1"
        if not 0 <= self.tolerance < 1:
            return f"tolerance is {self.tolerance!r}; expected a number from 0 to below 1"
        if not 1 <= self.cases <= MOST_CASES:
            return f"cases is {self.cases!r}; expected a number from 1 to {MOST_CASES:,}"
        return self._fault_of_places()

    def _fault_of_places(self) -> str | None:
        for text in self.texts or ():
            for place in FILLED.findall(text):
                if not (self.fill or {}).get(place):
                    return (
                        f"the text {text[:SHOWN_CHARACTERS]!r} has a place {{{place}}}; expected texts for it in fill"
                    )
        return None

    @property
    def description(self) -> str:
        if self.kind == "invariance":
            return f"the label stays when {SPOKEN[self.change or 'lower']}"
        if self.kind == "minimum":
            return f"the label is {self.label}"
        change = f"{self.add!r} is added" if self.add is not None else "words are replaced"
        return f"{self.label} does not {'get less' if self.must_not == 'fall' else 'more'} probable when {change}"


SPOKEN: dict[Change, str] = {
    "lower": "the text is in small letters",
    "upper": "the text is in capitals",
    "typo": "two neighbouring letters are swapped",
    "punctuation": "the last punctuation mark comes or goes",
    "names": "names are swapped for others",
}


class Case(NamedTuple):
    text: str
    changed: str | None  # None: the text is asked alone


def run_tests(
    tests: Sequence[BehaviourTest], test_texts: Sequence[str], labels: Sequence[str], score: Scorer
) -> dict[str, Any]:
    """
    :param test_texts: of the test split.
    :param labels: in the order of the scores.
    :return: ``passed``, and of each test what was asked, how often the model failed, and examples; JSON.
    :raises BadInput: a test is about a label that the model does not know.
    """
    for test in tests:
        if test.label is not None and test.label not in labels:
            raise BadInput(
                f"behaviour test {test.name!r}: the model knows no label {test.label!r}; it knows "
                f"{', '.join(sorted(labels)[:MOST_EXAMPLES])}. Nothing was judged."
            )
    sample = _Sample(test_texts)
    cases = [_cases(test, sample) for test in tests]
    asked = list(dict.fromkeys(text for ones in cases for case in ones for text in case if text is not None))
    probabilities = dict(zip(asked, score(asked), strict=True)) if asked else {}
    told = [_judge(test, ones, labels, probabilities) for test, ones in zip(tests, cases, strict=True)]
    for one in told:
        outcome = "passed" if one["passed"] else "failed"
        log.info("behaviour: %s %s: %d of %d cases", one["name"], outcome, one["failures"], one["cases"])
    return {"passed": all(one["passed"] for one in told), "tests": told}


def without_examples(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """:param told: by ``run_tests``. :return: the same without anybody's text."""
    if told is None:
        return None
    return {**told, "tests": [{**test, "examples": []} for test in told["tests"]]}


class _Sample:
    """The texts of a test split in an order that says nothing about them, and changes little when texts come or go."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self._ordered: list[str] | None = None

    def __iter__(self) -> Iterator[str]:
        if self._ordered is None:  # a test set of its own texts asks for none
            self._ordered = sorted(set(self._texts), key=lambda text: (text_hash(text), text))
        return iter(self._ordered)


def _cases(test: BehaviourTest, sample: Iterable[str]) -> list[Case]:
    """:return: those whose change is one: a text in small letters is no case of ``lower``."""
    most = test.cases if test.texts is None else MOST_CASES
    cases: list[Case] = []
    for text in sample if test.texts is None else _filled(test):
        if len(cases) == most:
            break
        if test.kind == "minimum":
            cases.append(Case(text, None))
        elif (changed := _changed(test, text)) != text:
            cases.append(Case(text, changed))
    return cases


def _filled(test: BehaviourTest) -> list[str]:
    """:return: the texts with their places filled in all ways, or in some where there are too many; each once."""
    found: dict[str, None] = {}
    fill = test.fill or {}
    templates = test.texts or []
    for template in templates:
        places = list(dict.fromkeys(FILLED.findall(template)))
        ways = math.prod(len(fill[place]) for place in places)
        most = max(1, MOST_CASES // len(templates))
        chosen: Iterable[int] = range(ways)
        if ways > most:
            draw = random.Random(f"{test.name}\n{template}")
            chosen = (draw.randrange(ways) for _time in range(most))
        for number in chosen:
            found[_fill(template, places, fill, number)] = None
    return list(found)


def _fill(template: str, places: Sequence[str], fill: Mapping[str, Sequence[str]], number: int) -> str:
    """:param number: which of all ways to fill the places."""
    chosen = {}
    for place in places:
        number, at = divmod(number, len(fill[place]))
        chosen[place] = fill[place][at]
    return FILLED.sub(lambda match: chosen[match[1]], template)


def _changed(test: BehaviourTest, text: str) -> str:
    draw = random.Random(f"{test.name}\n{text}")
    if test.add is not None:
        return text + test.add
    if test.replace is not None:
        return _replaced(text, test.replace)
    if test.change == "lower":
        return text.lower()
    if test.change == "upper":
        return text.upper()
    if test.change == "punctuation":
        bare = text.rstrip(ENDS)
        return bare if bare != text else f"{text}."
    if test.change == "names":
        names = list(dict.fromkeys(test.names or ()))
        return _replaced(text, {name: draw.choice([one for one in names if one != name]) for name in names})
    return _with_typo(text, draw)


def _with_typo(text: str, draw: random.Random) -> str:
    """:return: the text with two neighbouring letters swapped, as fingers do it."""
    places = [
        at for at in range(len(text) - 1) if text[at : at + 2].isalpha() and text[at].lower() != text[at + 1].lower()
    ]
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _replaced(text: str, words: Mapping[str, str]) -> str:
    """:return: the text with each of the words, where it stands alone, become the other one; all at once."""
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", lambda match: words[match[0]], text)


def _judge(
    test: BehaviourTest, cases: Sequence[Case], labels: Sequence[str], probabilities: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    failed = [example for case in cases if (example := _failure(test, case, labels, probabilities)) is not None]
    rate = (len(cases) - len(failed)) / len(cases) if cases else 0.0
    return {
        "name": test.name,
        "kind": test.kind,
        "description": test.description,
        "cases": len(cases),  # none: nothing that the test is about is in the test split, which is not passed
        "failures": len(failed),
        "rate": rate,
        "pass": test.pass_share,
        "passed": bool(cases) and rate >= test.pass_share,
        "examples": failed[:MOST_EXAMPLES],
    }


def _failure(
    test: BehaviourTest, case: Case, labels: Sequence[str], probabilities: Mapping[str, np.ndarray]
) -> dict[str, Any] | None:
    """:return: what was expected and what was answered; None: the model did as it should. NaN is never as it should."""
    before = probabilities[case.text]
    after = before if case.changed is None else probabilities[case.changed]
    answer = labels[int(after.argmax())]
    if test.kind == "directional":
        assert test.label is not None
        place = list(labels).index(test.label)
        was, now = float(before[place]), float(after[place])
        wrong_way = was - now if test.must_not == "fall" else now - was
        if wrong_way <= test.tolerance:
            return None
        told: dict[str, Any] = {"label": test.label, "was": _number(was), "now": _number(now)}
    else:
        expected = test.label if test.kind == "minimum" else labels[int(before.argmax())]
        if answer == expected and not math.isnan(float(after.max())):
            return None
        told = {"expected": expected, "answer": answer, "probability": _number(float(after.max()))}
    changed = {} if case.changed is None else shown("changed_text", case.changed)
    return {**shown("text", case.text), **changed, **told}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
