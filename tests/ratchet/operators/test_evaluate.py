"""The evaluation pins what it compares, and marks the challenger."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet.ledger import Ledger
from ratchet.operators.evaluate import EvaluateOperator
from tests.ratchet.fakes import FakeRegistry, context
from training.store import Store


def evaluate(registry, candidate="models:/intents/2", champion="models:/intents@champion", **others):
    operator = EvaluateOperator(
        task_id="evaluate",
        candidate=candidate,
        champion=champion,
        test_set="file:///snapshot",
        pipeline="intents",
        **others,
    )
    requests = []

    def run_stage(request, **options):
        requests.append(request)
        return {"report": "file:///report.json", "golden": "file:///golden.json", "hit": False, "why": "miss"}

    operator.__dict__.update(registry=registry, run_stage=run_stage)
    return operator.execute(context()), requests


def test_the_alias_is_pinned_to_the_version_it_names_now():
    registry = FakeRegistry("1", "2", champion="1")
    made, [request] = evaluate(registry)
    assert (request.candidate, request.champion) == ("models:/intents/2", "models:/intents/1")
    assert (made["candidate"], made["champion"]) == ("models:/intents/2", "models:/intents/1")
    assert registry.aliases["challenger"] == "2"


def test_a_first_run_has_no_champion():
    made, [request] = evaluate(FakeRegistry("2"))
    assert made["champion"] is request.champion is None


def test_a_champion_that_is_gone_from_mlflow_is_not_taken_for_a_first_run(places):
    Ledger(Store((places / "store").as_uri()), "intents").append("alias-done", to="1")
    with pytest.raises(AirflowFailException, match=r"version 1 was promoted on .* without a comparison"):
        evaluate(FakeRegistry("2"))


def test_the_champion_itself_is_no_challenger():
    registry = FakeRegistry("2", champion="2")
    evaluate(registry)
    assert registry.aliases == {"champion": "2"}


def test_a_version_that_does_not_exist_is_refused_before_anything_is_scored():
    with pytest.raises(AirflowFailException, match="models:/intents/9 does not exist"):
        evaluate(FakeRegistry("1"), candidate="models:/intents/9")
    with pytest.raises(AirflowFailException, match="models:/intents/9 does not exist"):
        evaluate(FakeRegistry("2"), champion="models:/intents/9")


def test_a_model_that_is_no_registered_version_needs_no_registry():
    made, [request] = evaluate(FakeRegistry(), candidate="/models/mine", champion=None)
    assert request.tracking is None
    assert made["candidate"] == "/models/mine"


def test_the_best_version_and_the_baseline_are_compared_as_well():
    _made, [request] = evaluate(
        FakeRegistry("1", "2", "3", champion="3"), best="models:/intents/1", baseline="majority"
    )
    assert (request.best, request.champion, request.baseline) == ("models:/intents/1", "models:/intents/3", "majority")


def test_a_best_version_that_is_the_champion_is_not_compared_twice():
    _made, [request] = evaluate(FakeRegistry("1", "2", champion="1"), best="models:/intents/1")
    assert (request.champion, request.best) == ("models:/intents/1", None)


def test_the_ledger_says_which_version_is_the_best(places):
    ledger = Ledger(Store((places / "store").as_uri()), "intents")
    registry = FakeRegistry("1", "2", "3", "4", champion="3")
    assert evaluate(registry, candidate="models:/intents/4", best="ledger")[1][0].best is None
    for version, digest, raises_mark in (("1", "a", True), ("2", "b", True), ("3", "c", False)):
        ledger.append("alias-done", to=version, model_digest=digest, raises_mark=raises_mark)
    assert evaluate(registry, candidate="models:/intents/4", best="ledger")[1][0].best == "models:/intents/2"
    ledger.append("barred", model_digest="b", version="2")
    assert evaluate(registry, candidate="models:/intents/4", best="ledger")[1][0].best == "models:/intents/1"


def test_a_best_version_that_is_gone_is_not_taken_for_none():
    with pytest.raises(AirflowFailException, match="models:/intents/9 does not exist"):
        evaluate(FakeRegistry("1", "2", champion="1"), best="models:/intents/9")


def test_a_best_version_that_the_ledger_names_and_nobody_has_says_what_to_do(places):
    ledger = Ledger(Store((places / "store").as_uri()), "intents")
    ledger.append("alias-done", to="9", model_digest="i", raises_mark=True)
    with pytest.raises(AirflowFailException, match=r"models:/intents/9, the best .* ratchet reconcile intents --fix"):
        evaluate(FakeRegistry("1", "2", champion="1"), best="ledger")
