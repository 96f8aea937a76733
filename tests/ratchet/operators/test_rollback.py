"""A rollback is a move like any other, and bars what it leaves."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import barred
from ratchet.ledger import Ledger
from ratchet.operators.rollback import RollbackOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context
from training.store import Store

RELEASE = "b" * 64


def ledger():
    return Ledger(Store(settings.store_uri()), "intents")


def roll_back(registry, endpoints, notify=()):
    operator = RollbackOperator(
        task_id="rollback",
        candidate="models:/intents/1",
        verdict={
            "decision": "promote",
            "reasons": ["it answers nonsense"],
            "candidate": {"model": "models:/intents/1", "digest": "m1"},
            "champion": {"model": "models:/intents/2"},
        },
        deployment={"endpoint": "desk", "url": endpoints.url, "digest": RELEASE, "model_digest": "m1"},
        notify=notify,
        pipeline="intents",
    )
    operator.__dict__.update(registry=registry, endpoints=endpoints)
    return operator.execute(context(user="berta"))


def test_the_alias_returns_with_who_and_why_and_what_it_left_is_barred(notes):
    registry = FakeRegistry("1", "2", champion="2")
    made = roll_back(registry, FakeEndpoints(RELEASE))
    assert registry.aliases["champion"] == "1"
    assert (made["version"], made["previous"]) == ("1", "2")
    done = ledger().last("alias-done")
    assert (done["kind"], done["verdict"], done["who"], done["why"]) == (
        "rollback",
        None,
        "berta",
        "it answers nonsense",
    )
    assert barred(ledger())["m2"]["version"] == "2"
    assert notes[-1].startswith("rolled back: version 1 is champion again after version 2, which is barred")


def test_whom_the_pipelines_spec_names_is_told(told, tmp_path):
    data = "data: {source: /d.csv, text: t, label: l}\n"
    notify = "notify: [{notifier: tests.ratchet.notifiers.Remembering, arguments: {to: anna}, on: [rollback]}]\n"
    (tmp_path / "intents.yaml").write_text(data + notify)
    roll_back(FakeRegistry("1", "2", champion="2"), FakeEndpoints(RELEASE), str(tmp_path))
    assert told == [("anna", "rollback: intents: version 1 is champion after version 2")]


def test_a_retry_moves_and_bars_nothing_twice():
    registry = FakeRegistry("1", "2", champion="2")
    roll_back(registry, FakeEndpoints(RELEASE))
    records = ledger().records()
    assert roll_back(registry, FakeEndpoints(RELEASE))["version"] == "1"
    assert ledger().records() == records


def test_an_endpoint_that_serves_something_else_keeps_the_alias_where_it_is():
    registry = FakeRegistry("1", "2", champion="2")
    with pytest.raises(RuntimeError, match="The champion stays"):
        roll_back(registry, FakeEndpoints("a" * 64))
    assert registry.aliases == {"champion": "2"}
    assert barred(ledger()) == {}


def test_a_champion_that_was_moved_since_the_choice_stays():
    registry = FakeRegistry("1", "2", "3", champion="3")
    with pytest.raises(AirflowFailException, match="champion was version 2 when"):
        roll_back(registry, FakeEndpoints(RELEASE))
    assert registry.aliases == {"champion": "3"}
    assert barred(ledger()) == {}
