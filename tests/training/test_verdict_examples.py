"""Rows and failures are shown with their texts, as they are."""

from __future__ import annotations

from tests.reports import binary
from tests.training.test_verdict_page import Page
from tests.training.verdicts import judged
from training import verdict_examples


def shown(html):
    return Page(html).text


def test_rows_that_got_worse_come_before_those_that_got_better_with_both_answers():
    details = judged(binary(900, 880), texts=lambda hashes: {one: f"text {int(one, 16)}" for one in hashes})[1]
    text = shown(verdict_examples.examples(details))
    assert text.index("Rows that got worse: 0 None.") < text.index("Rows that got better: 20")
    first = details["examples"]["better"]["shown"][0]
    assert first["text"] in text
    assert f"true label: {first['label']} · candidate: {first['label']}" in text
    assert "12 more" in text


def test_how_many_are_not_shown_is_said():
    text = shown(verdict_examples.examples(judged(binary(900))[1]))
    assert "Rows that the candidate gets wrong: 100" in text
    assert "and 75 more that are not shown" in text
    assert "the text could not be read again" in text


def failing(**failure):
    test = {"name": "a typo", "kind": "invariance", "description": "the label stays", "cases": 200, "failures": 14}
    return {"behaviour": [{**test, "rate": 0.93, "pass": 0.95, "passed": False, "examples": [failure]}]}


def test_a_failure_is_shown_with_both_texts_and_what_was_expected():
    told = failing(text="a fine film", changed_text="a fien film", expected="pos", answer="neg", probability=0.61)
    text = shown(verdict_examples.behaviour(told))
    assert "✗ fail a typo · 14 of 200 cases failed; 95% have to pass" in text
    assert "a fine film became a fien film expected pos · answered neg 61%" in text
    assert "and 13 more that are not shown" in text


def test_a_probability_that_moved_the_wrong_way_is_shown_before_and_after():
    told = failing(text="a fine film", changed_text="a fine film, not", label="pos", was=0.9, now=None)
    assert "probability of pos: 90% became –" in shown(verdict_examples.behaviour(told))


def test_a_test_without_a_case_says_so_and_none_is_nothing():
    told = failing()
    told["behaviour"][0] |= {"cases": 0, "failures": 0, "examples": []}
    assert "nothing in the test split is what it is about" in shown(verdict_examples.behaviour(told))
    assert verdict_examples.behaviour({"behaviour": []}) == ""
