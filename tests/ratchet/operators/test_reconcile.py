"""The daily look fails where something differs, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ratchet import settings
from ratchet.alias import ChampionAlias
from ratchet.ledger import Ledger
from ratchet.operators import reconcile
from ratchet.operators.reconcile import ReconcileOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context, promotion
from training.store import Store


def promoted(days=0):
    """:return: a registry whose champion is so many days old."""
    made, then = FakeRegistry("1", "2"), datetime.now(UTC) - timedelta(days=days, minutes=1)
    ledger = Ledger(Store(settings.store_uri()), "intents", lambda: then)
    facts = promotion(endpoint="desk", release="1", model_digest="m1")
    alias = ChampionAlias(made, ledger, "intents", settings.work_directory() / "locks")
    alias.move(made.versions["1"], None, facts, lambda: None)
    return made


@pytest.fixture
def registry(places):
    return promoted()


def look(registry, serves="1", specs=None, attempt=1):
    operator, ctx = ReconcileOperator(task_id="reconcile", specs=specs), context()
    operator.__dict__.update(registry=registry, endpoints=FakeEndpoints(serves))
    ctx["ti"].try_number = attempt
    return operator.execute(ctx)


def test_pipelines_that_agree_are_named(registry):
    assert look(registry) == {"pipelines": ["intents"]}


def test_an_empty_store_has_nothing_to_disagree(places):
    assert look(FakeRegistry()) == {"pipelines": []}


def test_what_differs_fails_the_task_and_is_on_its_runs_note(registry, notes):
    with pytest.raises(RuntimeError, match=r"intents: The endpoint 'desk' serves .*ratchet reconcile --fix"):
        look(registry, serves="2")
    assert registry.aliases == {"champion": "1"}
    assert notes[-1].startswith("differs: intents: The endpoint 'desk' serves another model")


@pytest.fixture
def specs(tmp_path):
    """A folder with the spec that says who is told of a champion of ten days."""
    notify = "notify: [{notifier: tests.ratchet.notifiers.Remembering, arguments: {to: anna}, on: [stale]}]\n"
    spec = "data: {source: /d.csv, text: t, label: l}\ngate: {stale_after_days: 10}\n"
    (tmp_path / "intents.yaml").write_text(spec + notify)
    return str(tmp_path)


@pytest.mark.parametrize(("days", "times"), [(0, 0), (9, 0), (10, 1), (11, 1), (19, 1)])
def test_an_old_champion_is_told_of_once(places, specs, told, days, times):
    registry = promoted(days)
    for _day in range(2):
        look(registry, specs=specs)
    assert told == [("anna", "stale: intents: nothing new is shipped")] * times


def test_an_old_champion_is_told_of_again_when_it_is_twice_as_old_however_late_the_look_is(
    places, specs, told, monkeypatch
):
    registry, now = promoted(), datetime.now(UTC)
    for days, times in ((9.9, 0), (10.99, 1), (12.01, 1), (19.5, 1), (21.5, 2), (22, 2)):
        monkeypatch.setattr(reconcile, "Ledger", lambda *a, then=now + timedelta(days=days): Ledger(*a, lambda: then))
        look(registry, specs=specs)
        assert len(told) == times


def test_a_look_that_is_repeated_since_something_differs_tells_once(places, specs, told):
    registry = promoted(days=10)
    for attempt in (1, 2, 3):
        with pytest.raises(RuntimeError):
            look(registry, serves="2", specs=specs, attempt=attempt)
    assert len(told) == 1


def test_what_a_first_look_did_not_come_to_is_told_by_the_next_one(places, specs, told):
    look(promoted(days=10), specs=specs, attempt=2)
    assert len(told) == 1


def test_a_pipeline_without_a_spec_is_looked_at_all_the_same(registry, told, tmp_path):
    assert look(registry, specs=str(tmp_path)) == {"pipelines": ["intents"]}
    assert told == []
