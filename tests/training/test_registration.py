import warnings
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the training environment")

import mlflow
import pandas as pd
from mlflow import MlflowClient
from transformers import pipeline

from tests.tiny import tiny_checkpoint
from tests.training import lab
from tests.training.tracked import FACTS, models_of, target
from training.contract import BadInput
from training.model import model_digest, resolve_model
from training.store import local_path
from training.tags import MODEL_TAG
from training.tracking import Journal, Recorder
from training.train import train

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of torch, transformers and mlflow: theirs to mend
    pytest.mark.usefixtures("quick_tracking"),
]


@pytest.fixture(scope="module")
def server(tracking_server):
    return tracking_server


def test_the_champion_predicts_through_plain_mlflow(server, champion):
    mlflow.set_tracking_uri(server)
    model = mlflow.pyfunc.load_model("models:/lab@champion")
    texts = ["it was a good film 1", "it was a bad film 2"]
    assert list(model.predict(texts)["label"]) == ["positive", "negative"]
    assert list(model.predict(pd.DataFrame({"text": texts}))["label"]) == ["positive", "negative"]
    both = model.predict(texts, params={"top_k": 2})
    assert list(both["label"]) == [["positive", "negative"], ["negative", "positive"]]
    assert sum(both["score"][0]) == pytest.approx(1)
    assert model.metadata.signature is not None
    assert model.input_example is not None


def test_the_champion_predicts_through_plain_transformers(server, champion, tmp_path):
    mlflow.set_tracking_uri(server)
    downloaded = mlflow.artifacts.download_artifacts("models:/lab@champion", dst_path=str(tmp_path))
    classify = pipeline("text-classification", model=f"{downloaded}/artifacts/model")
    assert [found["label"] for found in classify(["it was a good film 1", "it was a bad film 2"])] == [
        "positive",
        "negative",
    ]


def test_the_registered_files_are_those_of_the_digest(server, champion, tmp_path):
    found = resolve_model("models:/lab@champion", tmp_path, server)
    assert (found.digest, found.name) == (champion[1].digest, f"models:/lab/{champion[1].version}")


def test_logging_and_registering_a_model_says_no_more_than_we_do(server, classifier, tmp_path, capfd):
    recorder = Recorder(target(server, "quiet"), "k" * 64, FACTS, Journal(tmp_path / "journal.jsonl"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        recorder.publish(classifier, model_digest(classifier), tmp_path)
    told = capfd.readouterr()
    assert [str(warning.message) for warning in warned] == []
    assert [line for line in (told.out + told.err).splitlines() if "View " not in line] == []


def test_a_hit_finds_its_version_and_makes_no_other(server, champion):
    request, first = champion
    second = train(request)
    assert (second.hit, second.run_id, second.version) == (True, first.run_id, first.version)
    assert len(MlflowClient(server, server).search_model_versions("name = 'lab'")) == 1


def test_a_model_that_mlflow_lost_is_logged_again_with_its_history_and_not_trained(server, tmp_path, monkeypatch):
    base = tiny_checkpoint(tmp_path / "base")
    request = lab.request_for(tmp_path, base, tracking=target(server, "forgotten"))
    first = train(request)
    client = MlflowClient(server, server)
    client.delete_registered_model("forgotten")
    client.delete_run(first.run_id)
    (local_path(request.snapshot) / "manifest.json").unlink()  # nor does the store know any more what was in it
    monkeypatch.setattr("training.fit.fit", None)
    second = train(request)
    assert (second.hit, second.digest) == (True, first.digest)
    assert second.run_id != first.run_id
    assert client.get_model_version("forgotten", second.version).tags[MODEL_TAG] == first.digest
    assert [m.step for m in client.get_metric_history(second.run_id, "eval_loss")] == [6, 12, 18]


def test_a_forced_training_mends_the_model_that_mlflow_has(server, tmp_path):
    request = lab.request_for(tmp_path, tiny_checkpoint(tmp_path / "base"), tracking=target(server, "damaged"))
    first = train(request)
    client = MlflowClient(server, server)
    (model,) = models_of(client, "damaged")
    (weights,) = local_path(model.artifact_location).rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    mlflow.set_tracking_uri(server)
    with pytest.raises(BadInput, match="changed or damaged"):
        resolve_model(f"models:/damaged/{first.version}", tmp_path / "a", server)
    again = train(replace(request, force=True))
    assert (again.hit, again.version, again.run_id) == (False, first.version, first.run_id)
    assert resolve_model(f"models:/damaged/{first.version}", tmp_path / "b", server).digest == first.digest
