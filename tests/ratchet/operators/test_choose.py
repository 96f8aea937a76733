"""A rollback goes to a version that was champion, and to no other; finding it changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import PROMOTION, ROLLBACK, ChampionAlias, Move
from ratchet.ledger import Ledger
from ratchet.operators.choose import ChooseOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context
from training.store import Store


def ledger():
    return Ledger(Store(settings.store_uri()), "intents")


def move(registry, to, expected, *, kind=PROMOTION, run="run_1", dag="intents"):
    facts = Move(
        kind=kind,
        verdict=None,
        who="anna",
        why="because",
        dag_id=dag,
        run_id=run,
        endpoint="desk",
        release=f"r{to}",
        model_digest=f"m{to}",
    )
    alias = ChampionAlias(registry, ledger(), "intents", settings.work_directory() / "locks")
    alias.move(registry.versions[to], expected, facts, lambda: None)


@pytest.fixture
def registry(places):
    """Versions 1, 2 and 3 were champion one after the other; 4 never was."""
    made = FakeRegistry("1", "2", "3", "4")
    for to, expected in (("1", None), ("2", "1"), ("3", "2")):
        move(made, to, expected)
    return made


def choose(registry, *, version=None, reason="it answers nonsense", pipeline="intents", ctx=None, serves="3"):
    operator = ChooseOperator(
        task_id="choose", dag=None, pipeline=pipeline, version=version, reason=reason, endpoint_conn_id="e"
    )
    operator.__dict__.update(registry=registry, endpoints=FakeEndpoints(serves))
    return operator.execute(ctx or context())


def test_the_champion_before_this_one_is_chosen(registry):
    chosen = choose(registry)
    assert chosen["model"] == "models:/intents/2"
    assert chosen["endpoint"] == "desk"
    assert chosen["release"].endswith("/releases/r2")
    assert chosen["decision"] == {
        "decision": "promote",
        "reasons": ["it answers nonsense"],
        "candidate": {"model": "models:/intents/2", "digest": "m2"},
        "champion": {"model": "models:/intents/3"},
    }


def test_what_is_about_to_happen_is_on_record_once(registry):
    ctx = context(run_id="first", user="berta")
    for _attempt in range(2):
        choose(registry, ctx=ctx)
    [begun] = ledger().records("rollback-begun")
    assert (begun["from"], begun["to"], begun["who"], begun["why"]) == ("3", "2", "berta", "it answers nonsense")


def test_any_version_that_was_champion_may_be_named(registry):
    assert choose(registry, version="1")["model"] == "models:/intents/1"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reason": "  "}, "needs a reason"),
        ({"reason": "\u2060"}, "needs a reason"),
        ({"pipeline": "intent"}, r"No pipeline 'intent' ever ran.* Did you mean 'intents'\?"),
        ({"version": "9"}, r"models:/intents/9 does not exist.*1, 2, 3\."),
        ({"version": "latest"}, "models:/intents/latest does not exist"),
        ({"version": "4"}, r"version 4 was never champion.*1, 2, 3\."),
        ({"version": "3", "serves": "3"}, "version 3 is champion and serves on 'desk' already"),
        ({"version": "3", "serves": "2"}, "does not serve it.*ratchet reconcile intents --fix"),
    ],
)
def test_what_cannot_be_returned_to_is_refused_and_nothing_changes(registry, options, reason):
    before, records = dict(registry.aliases), ledger().records()
    with pytest.raises(AirflowFailException, match=f"Nothing was changed: .*{reason}"):
        choose(registry, **options)
    assert registry.aliases == before
    assert ledger().records() == records


def test_before_the_first_champion_there_is_nothing_to_return_to(places):
    registry = FakeRegistry("1")
    move(registry, "1", None)
    with pytest.raises(AirflowFailException, match="no champion before the one that serves"):
        choose(registry)


def test_of_two_rollbacks_asked_for_at_once_the_second_does_not_go_back_twice(registry):
    second = context(run_id="second")
    second["dag_run"].run_after = datetime.now(UTC) - timedelta(seconds=5)
    move(registry, "2", "3", kind=ROLLBACK, run="first", dag="ratchet_rollback")
    with pytest.raises(AirflowFailException, match="since this rollback was asked for, the champion became version 2"):
        choose(registry, ctx=second)
    assert choose(registry, version="1", ctx=second)["model"] == "models:/intents/1"


def test_a_run_that_is_repeated_chooses_the_same_version_again(registry):
    ctx = context(run_id="first")
    assert choose(registry, ctx=ctx)["model"] == "models:/intents/2"
    move(registry, "2", "3", kind=ROLLBACK, run="first", dag="adhoc_airflow")
    again = choose(registry, ctx=ctx)
    assert again["model"] == "models:/intents/2"
    assert again["decision"]["champion"] == {"model": "models:/intents/3"}


def test_an_alias_that_somebody_took_away_can_be_brought_back(registry):
    del registry.aliases["champion"]
    chosen = choose(registry, version="3")
    assert (chosen["model"], chosen["decision"]["champion"]) == ("models:/intents/3", None)
