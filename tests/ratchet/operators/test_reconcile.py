"""The daily look fails where something differs, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ratchet import settings
from ratchet.alias import ChampionAlias
from ratchet.ledger import Ledger
from ratchet.operators.reconcile import ReconcileOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context, promotion
from training.store import Store


@pytest.fixture
def registry(places):
    made = FakeRegistry("1", "2")
    ledger = Ledger(Store(settings.store_uri()), "intents")
    facts = promotion(endpoint="desk", release="1", model_digest="m1")
    alias = ChampionAlias(made, ledger, "intents", settings.work_directory() / "locks")
    alias.move(made.versions["1"], None, facts, lambda: None)
    return made


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
def aged(registry, tmp_path, monkeypatch):
    """:return: what makes the champion so many days old. Who is told, after ten days, is in a spec."""
    notify = "notify: [{notifier: tests.ratchet.notifiers.Remembering, arguments: {to: anna}, on: [stale]}]\n"
    spec = "data: {source: /d.csv, text: t, label: l}\ngate: {stale_after_days: 10}\n"
    (tmp_path / "intents.yaml").write_text(spec + notify)
    began = datetime.now(UTC)
    return lambda days: monkeypatch.setattr(
        Ledger.__init__, "__defaults__", (lambda: began + timedelta(days=days, minutes=1),)
    )


def test_an_old_champion_is_told_of_on_the_day_and_whenever_so_many_have_passed(registry, aged, told, tmp_path):
    for days in range(25):
        aged(days)
        look(registry, specs=str(tmp_path))
    assert told == [("anna", "stale: intents: nothing new is shipped")] * 2


def test_a_look_that_is_repeated_since_something_differs_tells_once(registry, aged, told, tmp_path):
    aged(10)
    for attempt in (1, 2, 3):
        with pytest.raises(RuntimeError):
            look(registry, serves="2", specs=str(tmp_path), attempt=attempt)
    assert len(told) == 1


def test_a_pipeline_without_a_spec_is_looked_at_all_the_same(registry, told, tmp_path):
    assert look(registry, specs=str(tmp_path)) == {"pipelines": ["intents"]}
    assert told == []
