"""The page on which a person decides: what the gate could not say, in figures and sentences."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ratchet.question import body, subject

DEADLINE = datetime(2026, 11, 25, 8, tzinfo=UTC)
COMPARED = {
    "name": "no_worse_by.f1_macro",
    "outcome": "undecided",
    "value": -0.004,
    "bound": -0.02,
    "reason": "f1_macro 0.880 is below the champion's 0.884; 300 test rows do not tell",
    "low": -0.031,
    "high": 0.022,
    "rows": 300,
    "rows_to_decide": 1200,
}
PASSED = {"name": "minimum.accuracy", "outcome": "pass", "value": 0.9, "bound": 0.8, "reason": "accuracy reaches 0.8"}
VERDICT = {
    "decision": "ask",
    "key": "k" * 64,
    "reasons": [COMPARED["reason"]],
    "rules": [PASSED, COMPARED],
    "candidate": {"model": "models:/intents/4", "digest": "m4"},
    "champion": {"model": "models:/intents/3", "digest": "m3"},
    "notes": ["label 'neg' has 2 test rows: its scores say little"],
    "report_url": "http://mlflow.example/verdict.html",
}


def page(approvers=("anna",), champion_metrics=None, **changes):
    metrics = {"accuracy": 0.91, "log_loss": None}
    of_champion = {"accuracy": 0.9, "log_loss": 0.3} if champion_metrics is None else champion_metrics
    return body({**VERDICT, **changes}, metrics, of_champion, DEADLINE, list(approvers))


def test_the_subject_names_pipeline_and_version():
    assert subject("intents", VERDICT) == "intents: make version 4 the champion?"
    elsewhere = {"candidate": {"model": "file:///models/4", "digest": "m4"}}
    assert subject("intents", elsewhere) == "intents: make the candidate the champion?"


def test_what_the_rows_do_not_decide_comes_with_how_many_would():
    lines = page().splitlines()
    assert lines[0] == "**The test rows do not decide one rule**; every other one passed."
    assert (
        "| `no_worse_by.f1_macro` | the champion | undecided | -0.0040 | -0.0310 to +0.0220 | -0.02 | 300 | 1,200 |"
        in lines
    )
    assert r"- f1\_macro 0.880 is below the champion's 0.884; 300 test rows do not tell" in lines
    assert not any("minimum.accuracy" in line for line in lines)


def test_candidate_and_champion_are_side_by_side():
    lines = page().splitlines()
    assert "| model | `models:/intents/4` | `models:/intents/3` |" in lines
    assert "| `accuracy` | 0.9100 | 0.9000 |" in lines
    assert "| `log_loss` (lower is better) | – | 0.3000 |" in lines


def test_a_first_model_has_no_champion_beside_it():
    told = page(champion=None, champion_metrics={}, rules=[PASSED], reasons=["there is no champion yet"])
    assert "| model | `models:/intents/4` | – |" in told
    assert "| `accuracy` | 0.9100 | – |" in told
    assert told.startswith("**Every rule of the gate passed.** This pipeline asks before each promotion.")


def test_who_may_answer_until_when_and_what_follows_is_said():
    told = page(["anna", "ben"])
    assert "Who may answer: `anna`, `ben`. Without an answer by 2026-11-25 08:00 UTC it counts as rejected." in told
    assert "whoever may answer for this DAG" in page([])


def test_the_report_is_linked_and_the_verdict_named():
    told = page()
    assert "](http://mlflow.example/verdict.html)" in told
    assert told.endswith(f"Verdict `{'k' * 64}`")
    assert "The whole report" not in page(report_url=None)


@pytest.mark.parametrize("where", ["reasons", "notes"])
def test_nothing_from_the_data_is_markup(where):
    told = page(**{where: ["label '[free](http://evil.example) <img src=x>' fell", "slice '**x**' | y"]})
    assert r"label `'[free](http://evil.example)` \<img src=x\>' fell" in told
    assert r"slice '\*\*x\*\*' \| y" in told


def test_the_name_of_a_rule_cannot_leave_its_cell():
    told = page(rules=[{**COMPARED, "name": "behaviour.a`|b"}])
    assert r"| `` behaviour.a`\|b `` | – | undecided |" in told
