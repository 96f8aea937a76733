"""The daily look fails where something differs, and changes nothing."""

from __future__ import annotations

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


def look(registry, serves="1"):
    operator = ReconcileOperator(task_id="reconcile")
    operator.__dict__.update(registry=registry, endpoints=FakeEndpoints(serves))
    return operator.execute(context())


def test_pipelines_that_agree_are_named(registry):
    assert look(registry) == {"pipelines": ["intents"]}


def test_an_empty_store_has_nothing_to_disagree(places):
    assert look(FakeRegistry()) == {"pipelines": []}


def test_what_differs_fails_the_task_and_is_on_its_runs_note(registry, notes):
    with pytest.raises(RuntimeError, match=r"intents: The endpoint 'desk' serves .*ratchet reconcile --fix"):
        look(registry, serves="2")
    assert registry.aliases == {"champion": "1"}
    assert notes[-1].startswith("differs: intents: The endpoint 'desk' serves another model")
