"""A candidate is trained, or a given model is taken."""

from __future__ import annotations

import pytest

from ratchet.operators.train import TrainOperator
from tests.ratchet.fakes import FakeRegistry, context
from training.contract import ImportRequest, TrainRequest

MADE = {"run_id": "r", "experiment_id": "7", "version": "4", "digest": "c" * 64, "why": "miss: first run"}


def train(**options):
    """:return: what the operator returned, and stage and request that it ran."""
    asked = []

    def run_stage(request, *, stage, env):
        asked.append((stage, request))
        return MADE

    operator = TrainOperator(
        task_id="train",
        snapshot="file:///s",
        base_model="acme/base",
        model_name="intents",
        pipeline="intents",
        **options,
    )
    operator.__dict__.update(registry=FakeRegistry("4"), run_stage=run_stage)
    return operator.execute(context()), *asked


@pytest.mark.parametrize("model", [None, ""])
def test_without_a_model_one_is_trained(places, model):
    returned, (stage, request) = train(model=model, arguments={"seed": 1}, force="True")
    assert returned["candidate"] == "models:/intents/4"
    assert stage == "train"
    assert isinstance(request, TrainRequest)
    assert (request.arguments, request.force, request.run) == ({"seed": 1}, True, "manual__1")


def test_a_given_model_is_taken_and_none_is_trained(places):
    returned, (stage, request) = train(model="acme/films@v1", model_labels={"LABEL_0": "neg"})
    assert returned["candidate"] == "models:/intents/4"
    assert stage == "import"
    assert isinstance(request, ImportRequest)
    assert (request.model, request.labels, request.snapshot) == ("acme/films@v1", {"LABEL_0": "neg"}, "file:///s")
    assert request.tracking.model_name == "intents"
