"""What became of every version, from MLflow and the ledger together."""

from __future__ import annotations

import pytest

from ratchet.alias import PROMOTION, ROLLBACK, ChampionAlias, Move
from ratchet.history import history
from ratchet.ledger import INGESTED, Ledger
from tests.ratchet.fakes import FakeRegistry
from training.store import Store


@pytest.fixture
def registry():
    made = FakeRegistry("1", "2", "10")
    made.tags = {"1": {"ratchet.snapshot": "s1", "ratchet.verdict": "promote"}, "10": {"ratchet.verdict": "hold"}}
    made.metrics = {"ratchet/intents": {"run1": {"test_f1_macro": 0.8, "test_accuracy": 0.9, "loss": 1.0}}}
    return made


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(Store(str(tmp_path / "store")), "intents")
    made.append(INGESTED, digest="s1", rows={"train": 80, "test": 20})
    return made


def move(registry, ledger, places, to, expected, kind=PROMOTION, why="it is no worse"):
    facts = Move(
        kind=kind,
        verdict="promote" if kind == PROMOTION else None,
        who="anna",
        why=why,
        dag_id="intents",
        run_id="run_1",
        endpoint="desk",
        release=f"r{to}",
        model_digest=f"m{to}",
    )
    ChampionAlias(registry, ledger, "intents", places).move(registry.versions[to], expected, facts, lambda: None)


def test_every_version_is_told_newest_first(registry, ledger, tmp_path):
    move(registry, ledger, tmp_path, "1", None)
    newest, second, first = history(registry, ledger, "intents")
    assert [entry.version for entry in (newest, second, first)] == ["10", "2", "1"]
    assert (newest.verdict, newest.aliases, newest.happenings) == ("hold", (), [])
    assert (first.verdict, first.aliases, first.snapshot) == ("promote", ("champion",), "s1")
    assert first.metrics == {"accuracy": 0.9, "f1_macro": 0.8}
    assert first.rows == {"train": 80, "test": 20}
    assert (first.release, first.endpoint, first.model_digest) == ("r1", "desk", "m1")
    assert first.made == "2026-11-01T08:30:00+00:00"
    assert second.rows is None


def test_who_made_it_champion_and_why_is_told_of_promotion_rollback_and_a_move_by_hand(registry, ledger, tmp_path):
    move(registry, ledger, tmp_path, "1", None)
    move(registry, ledger, tmp_path, "2", "1")
    move(registry, ledger, tmp_path, "1", "2", ROLLBACK, "it answers nonsense")
    registry.aliases["champion"] = "10"
    ChampionAlias(registry, ledger, "intents", tmp_path).settle()
    newest, second, first = history(registry, ledger, "intents")
    assert [(one.what, one.who, one.why) for one in first.happenings] == [
        ("promoted", "anna", "it is no worse"),
        ("returned to from version 2", "anna", "it answers nonsense"),
    ]
    assert [one.what for one in second.happenings] == ["promoted after version 1", "barred"]
    assert second.barred == "it answers nonsense"
    assert [(one.what, one.who) for one in newest.happenings] == [("made champion by hand after version 1", None)]


def test_why_a_version_was_held_is_told_and_that_one_passed_is_not(registry, ledger):
    ledger.append("judged", version="10", decision="hold", why="f1_macro 0.41 is below the champion's")
    ledger.append("judged", version="2", decision="promote")
    newest, second, _first = history(registry, ledger, "intents")
    assert [(one.what, one.why) for one in newest.happenings] == [("held", "f1_macro 0.41 is below the champion's")]
    assert second.happenings == []


def test_an_override_and_an_answer_are_told_with_who_and_why(registry, ledger):
    ledger.append("overridden", version="10", decision="hold", who="anna", why="the customer waits")
    ledger.append("approved", version="10", who="ben", why=None)
    newest = history(registry, ledger, "intents")[0]
    assert [(one.what, one.who, one.why) for one in newest.happenings] == [
        ("let through against the gate's hold", "anna", "the customer waits"),
        ("approved", "ben", None),
    ]


def test_whatever_else_the_ledger_says_of_a_version_is_told(registry, ledger):
    ledger.append("looked-at", version="10", who="anna", why="the customer knows")
    newest = history(registry, ledger, "intents")[0]
    assert [(one.what, one.who, one.why) for one in newest.happenings] == [("looked at", "anna", "the customer knows")]


def test_a_model_that_mlflow_does_not_know_has_no_history(ledger):
    assert history(FakeRegistry(), ledger, "intents") == []
