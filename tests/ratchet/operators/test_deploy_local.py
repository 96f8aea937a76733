"""A release reaches the endpoint only behind a verdict about that very model."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet.operators.deploy_local import LocalDeployOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context
from training.store import Store, hash_tree

OLD, NEW = "a" * 64, "b" * 64


def deploy(endpoints, *, decision="promote", judged="m", champion="1", **options):
    verdict = {
        "decision": decision,
        "reasons": ["macro F1 0.871 < 0.884"],
        "candidate": {"digest": judged},
        "champion": {"model": "models:/intents/1"},
    }
    operator = LocalDeployOperator(
        task_id="deploy", endpoint="intents", **{"model": "models:/intents/2", "verdict": verdict, **options}
    )
    packaged = {"release": "file:///store/releases/b", "digest": NEW, "model_digest": "m", "hit": False, "why": "miss"}
    operator.__dict__.update(
        hook=endpoints, registry=FakeRegistry("1", "2", "3", champion=champion), run_stage=lambda *_, **__: packaged
    )
    return operator.execute(context())


def test_a_promoted_model_reaches_the_endpoint():
    endpoints = FakeEndpoints(OLD)
    made = deploy(endpoints)
    assert endpoints.digest == NEW
    assert (made["endpoint"], made["digest"], made["model_digest"], made["hit"]) == ("intents", NEW, "m", False)


@pytest.mark.parametrize("options", [{"decision": "hold"}, {"decision": "ask"}, {"verdict": None}, {"verdict": {}}])
def test_without_a_verdict_to_promote_the_endpoint_is_untouched(options):
    endpoints = FakeEndpoints(OLD)
    with pytest.raises(AirflowFailException, match="left unchanged"):
        deploy(endpoints, **options)
    assert endpoints.deployments == []


@pytest.mark.parametrize("name", ["mine_x", "Mine", "-mine", "m" * 64, "", "mine\n"])
def test_a_name_that_no_endpoint_may_have_is_refused_before_anything_is_packaged(name):
    packaged = []
    operator = LocalDeployOperator(task_id="deploy", model="/models/any", endpoint=name, ungated=True)
    operator.__dict__["run_stage"] = lambda *given, **_: packaged.append(given)
    with pytest.raises(
        AirflowFailException, match=r"is no name for an endpoint: .*lower-case.* Nothing was packaged\."
    ):
        operator.execute(context())
    assert packaged == []


def test_a_verdict_about_another_model_deploys_nothing():
    endpoints = FakeEndpoints(OLD)
    with pytest.raises(AirflowFailException, match="verdict is about model other"):
        deploy(endpoints, judged="other")
    assert endpoints.deployments == []


def test_a_champion_that_was_moved_since_the_evaluation_keeps_its_endpoint():
    endpoints = FakeEndpoints(OLD)
    with pytest.raises(AirflowFailException, match=r"champion was version 1 when .*, but the alias names 3"):
        deploy(endpoints, champion="3")
    assert endpoints.deployments == []


def test_a_model_that_never_met_a_gate_is_deployed_when_that_is_said():
    endpoints = FakeEndpoints()
    deploy(endpoints, verdict=None, ungated=True)
    assert endpoints.digest == NEW


@pytest.mark.parametrize("model", ["models:/intents/2", "models:/intents@champion", "file:///store/models/b"])
def test_an_endpoint_of_another_registered_model_is_untouched(model):
    endpoints = FakeEndpoints(OLD, owner="sentiment")
    with pytest.raises(AirflowFailException, match=r"'intents' left unchanged.* belongs to .*'sentiment'"):
        deploy(endpoints, model=model, verdict=None, ungated=True)
    assert (endpoints.digest, endpoints.deployments) == (OLD, [])


@pytest.mark.parametrize(
    ("model", "owner"),
    [("models:/intents/2", "intents"), ("models:/intents@champion", "intents"), ("file:///store/models/b", None)],
)
def test_a_free_endpoint_becomes_the_registered_models(model, owner):
    endpoints = FakeEndpoints(OLD)
    deploy(endpoints, model=model, verdict=None, ungated=True)
    assert (endpoints.digest, endpoints.owner) == (NEW, owner)


def test_a_retry_deploys_nothing_twice():
    endpoints = FakeEndpoints(OLD)
    deploy(endpoints)
    assert deploy(endpoints)["hit"]
    assert len(endpoints.deployments) == 1


def test_a_release_that_does_not_start_leaves_the_old_one_and_may_be_retried():
    endpoints = FakeEndpoints(OLD, broken=[NEW])
    with pytest.raises(RuntimeError, match=r"smoke test failed.*alias was not moved"):
        deploy(endpoints)
    assert endpoints.digest == OLD


def test_an_endpoint_that_answers_with_another_digest_is_no_success():
    endpoints = FakeEndpoints(OLD)
    endpoints.answers_with = OLD
    with pytest.raises(RuntimeError, match=f"answers with {OLD}"):
        deploy(endpoints)


def test_a_release_that_is_there_is_deployed_as_it_is(places):
    store = Store((places / "store").as_uri())
    made = places / "made"
    made.mkdir()
    (made / "model.xml").write_text("weights")
    files = hash_tree(made)
    manifest = {"digest": OLD, "model_digest": "m", "files": files}
    release = store.put_directory(made, f"releases/{OLD}", manifest, "release.json")
    endpoints = FakeEndpoints(NEW)
    assert deploy(endpoints, release=release)["digest"] == OLD
    assert endpoints.deployments == [("intents", release, OLD)]


@pytest.mark.parametrize("damage", ["gone", "another file"])
def test_a_release_that_is_gone_or_damaged_is_made_anew(places, damage):
    store = Store((places / "store").as_uri())
    if damage != "gone":
        made = places / "made"
        made.mkdir()
        (made / "model.xml").write_text("weights")
        manifest = {"digest": OLD, "model_digest": "m", "files": {"model.xml": "0" * 64}}
        store.put_directory(made, f"releases/{OLD}", manifest, "release.json")
    endpoints = FakeEndpoints(OLD)
    assert deploy(endpoints, release=store.uri(f"releases/{OLD}"))["digest"] == NEW
