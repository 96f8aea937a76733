import json
import socket
import threading
import time
import warnings
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the training environment")

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from transformers import pipeline

from tests.servers import free_port, mlflow_server
from tests.tiny import tiny_checkpoint
from tests.training import lab
from training import tracking
from training.contract import BadInput, Tracking
from training.model import DIGEST_TAG, model_digest, resolve_model
from training.store import local_path
from training.tracking import Dataset, Facts, Journal, Recorder
from training.train import train

pytestmark = pytest.mark.filterwarnings("default")  # of torch, transformers and mlflow: theirs to mend

FACTS = Facts(
    {"learning_rate": 3e-4},
    {"ratchet.snapshot": "5" * 64, "ratchet.code": "c" * 64},
    [Dataset("train", "file:///s/train.parquet", "5" * 64, 48), Dataset("validation", "file:///s/v", "5" * 64, 20)],
)


@pytest.fixture(scope="module")
def server(tracking_server):
    return tracking_server


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"), labels=["negative", "positive"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # put back what connect() sets
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "SYSTEM_SECONDS", 0.1)


def target(server, name):
    return Tracking(uri=server, experiment=f"ratchet/{name}", model_name=name, tags={"airflow.run": "manual"})


def runs_of(client, name):
    experiment = client.get_experiment_by_name(f"ratchet/{name}")
    return client.search_runs([experiment.experiment_id])


def models_of(client, name):
    return client.search_logged_models([client.get_experiment_by_name(f"ratchet/{name}").experiment_id])


class LosesAnswers:
    """A client whose nth call reaches the server, and whose answer never comes back."""

    def __init__(self, client, nth):
        self._client, self._left, self.lost = client, nth, None

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **kwargs):
            answer = method(*args, **kwargs)
            self._left -= 1
            if self._left == 0:
                self.lost = name
                raise MlflowException("connection reset by peer")
            return answer

        return call


def test_a_lost_answer_to_any_call_leaves_one_run_one_model_one_version(server, checkpoint, tmp_path):
    digest = model_digest(checkpoint)
    lost = []
    for nth in range(1, 100):
        name = f"lost-{nth}"
        journal = Journal(tmp_path / name / "journal.jsonl")
        journal.record({"loss": 0.5}, 1)
        client = LosesAnswers(MlflowClient(server, server), nth)
        first = Recorder(target(server, name), "k" * 64, FACTS, journal, client)
        try:
            first.publish(checkpoint, digest, tmp_path / name, outage_seconds=0)
        except MlflowException:
            lost.append(client.lost)
        else:
            break
        again = Recorder(target(server, name), "k" * 64, FACTS, Journal(tmp_path / name / "journal.jsonl"))
        published = again.publish(checkpoint, digest, tmp_path / name, outage_seconds=0)
        plain = MlflowClient(server, server)
        (run,) = runs_of(plain, name)
        (model,) = models_of(plain, name)
        (version,) = plain.search_model_versions(f"name = '{name}'")
        assert (run.info.run_id, run.info.status) == (published.run_id, "FINISHED")
        assert (model.status, version.source) == ("READY", f"models:/{model.model_id}")
        assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
        assert [metric.value for metric in plain.get_metric_history(run.info.run_id, "loss")] == [0.5]
        assert len(run.inputs.dataset_inputs) == 2
    assert {"create_experiment", "create_run", "create_logged_model", "log_model_artifacts"} <= set(lost)
    assert {"finalize_logged_model", "create_registered_model", "create_model_version", "log_outputs"} <= set(lost)
    assert {"log_batch", "set_terminated"} <= set(lost)


@pytest.fixture(scope="module")
def trained(server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    base = tiny_checkpoint(directory / "base")
    request = lab.request_for(
        directory, base, arguments={"num_train_epochs": 8}, tracking=target(server, "lab"), pipeline="lab"
    )
    result = train(request)
    MlflowClient(server, server).set_registered_model_alias("lab", "champion", result.version)
    return request, result


def test_a_run_tells_what_was_trained_on_what_and_how(server, trained):
    request, result = trained
    client = MlflowClient(server, server)
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.003"
    assert {"loss", "grad_norm", "learning_rate", "samples_per_second", "eval_loss", "eval_f1_macro"} <= set(
        run.data.metrics
    )
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(run.data.metrics)
    assert [metric.step for metric in client.get_metric_history(result.run_id, "eval_loss")] == [
        lab.STEPS * epoch for epoch in range(1, 9)
    ]
    snapshot = request.snapshot.rpartition("/")[2]
    assert {dataset.dataset.digest for dataset in run.inputs.dataset_inputs} == {snapshot[:32]}
    assert run.data.tags["airflow.run"] == "manual"
    assert {"environment.torch", "environment.transformers", "environment.processor"} <= set(run.data.tags)
    expected = {
        "ratchet.key": result.key,
        "ratchet.pipeline": "lab",
        "ratchet.snapshot": snapshot,
        "ratchet.model_digest": result.digest,
    }
    version = client.get_model_version("lab", result.version)
    for tags in (run.data.tags, version.tags):
        assert expected.items() <= tags.items()
        assert len(tags["ratchet.code"]) == 64


def test_the_champion_predicts_through_plain_mlflow(server, trained):
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


def test_the_champion_predicts_through_plain_transformers(server, trained, tmp_path):
    mlflow.set_tracking_uri(server)
    downloaded = mlflow.artifacts.download_artifacts("models:/lab@champion", dst_path=str(tmp_path))
    classify = pipeline("text-classification", model=f"{downloaded}/artifacts/model")
    assert [found["label"] for found in classify(["it was a good film 1", "it was a bad film 2"])] == [
        "positive",
        "negative",
    ]


def test_the_registered_files_are_those_of_the_digest(server, trained, tmp_path):
    found = resolve_model("models:/lab@champion", tmp_path, server)
    assert (found.digest, found.name) == (trained[1].digest, f"models:/lab/{trained[1].version}")


def test_logging_and_registering_a_model_says_no_more_than_we_do(server, checkpoint, tmp_path, capfd):
    recorder = Recorder(target(server, "quiet"), "k" * 64, FACTS, Journal(tmp_path / "journal.jsonl"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        recorder.publish(checkpoint, model_digest(checkpoint), tmp_path)
    told = capfd.readouterr()
    assert [str(warning.message) for warning in warned] == []
    assert [line for line in (told.out + told.err).splitlines() if "View " not in line] == []


def test_a_hit_finds_its_version_and_makes_no_other(server, trained):
    request, first = trained
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
    monkeypatch.setattr("training.fit.fit", None)
    second = train(request)
    assert (second.hit, second.digest) == (True, first.digest)
    assert second.run_id != first.run_id
    assert client.get_model_version("forgotten", second.version).tags[DIGEST_TAG] == first.digest
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


def test_a_crashed_run_is_marked_then_continues_under_the_same_id_without_gaps(server, tmp_path, monkeypatch):
    monkeypatch.setenv(lab.LOG, str(tmp_path / "steps"))
    monkeypatch.setenv(lab.SLOW, "0.05")  # so that MLflow hears of the run before it breaks down
    base = tiny_checkpoint(tmp_path / "base")
    request = lab.request_for(tmp_path, base, tracking=target(server, "crashed"), trainer=lab.WATCHED)
    monkeypatch.setenv(lab.CRASH, "15")
    with pytest.raises(OSError, match="disk is full"):
        train(request)
    client = MlflowClient(server, server)
    (crashed,) = runs_of(client, "crashed")
    assert crashed.info.status == "FAILED"
    monkeypatch.delenv(lab.CRASH)
    result = train(request)
    assert result.run_id == crashed.info.run_id
    assert client.get_run(result.run_id).info.status == "FINISHED"
    for name, steps in (("loss", [*range(1, 19)]), ("eval_loss", [6, 12, 18])):
        assert sorted(metric.step for metric in client.get_metric_history(result.run_id, name)) == steps


def test_a_run_that_nobody_took_up_again_for_a_week_is_killed_and_none_that_lives(server, checkpoint, tmp_path):
    client = MlflowClient(server, server)
    experiment = client.create_experiment("ratchet/abandoned")
    now = time.time_ns() // 1_000_000
    old = now - 8 * 24 * 3600 * 1000
    ours = {"ratchet.key": "a" * 64}
    runs = {
        "abandoned": client.create_run(experiment, start_time=old, tags=ours),
        "alive": client.create_run(experiment, start_time=old, tags=ours),
        "young": client.create_run(experiment, tags=ours),
        "somebody's": client.create_run(experiment, start_time=old),
        "own": client.create_run(experiment, start_time=old, tags={"ratchet.key": "k" * 64}),
    }
    client.log_metric(runs["abandoned"].info.run_id, tracking.SIGN_OF_LIFE, 50, timestamp=old)
    client.log_metric(runs["alive"].info.run_id, tracking.SIGN_OF_LIFE, 50, timestamp=now)
    recorder = Recorder(target(server, "abandoned"), "k" * 64, FACTS, Journal(tmp_path / "journal.jsonl"))
    recorder.publish(checkpoint, model_digest(checkpoint), tmp_path)
    status = {name: client.get_run(run.info.run_id).info.status for name, run in runs.items()}
    expected = dict.fromkeys(runs, "RUNNING")
    assert status == {**expected, "abandoned": "KILLED", "own": "FINISHED"}


def test_an_outage_delays_a_run_and_loses_nothing(tmp_path, monkeypatch):
    """MLflow is down from before the start until after the end of training."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    base = tiny_checkpoint(tmp_path / "base")
    request = lab.request_for(tmp_path, base, tracking=target(uri, "outage"))
    results = []
    training = threading.Thread(target=lambda: results.append(train(request)))
    training.start()
    while not list((tmp_path / "work").rglob("trained.json")):
        assert training.is_alive()
        time.sleep(0.1)
    monkeypatch.setattr("tests.servers.free_port", lambda: port)
    with mlflow_server(tmp_path / "mlflow"):
        training.join(60)
        (result,) = results
        client = MlflowClient(uri, uri)
        assert client.get_run(result.run_id).info.status == "FINISHED"
        assert len(client.get_metric_history(result.run_id, "loss")) == 18
        assert client.get_model_version("outage", result.version).run_id == result.run_id


def test_a_server_that_accepts_and_never_answers_does_not_hold_up_training(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        base = tiny_checkpoint(tmp_path / "base")
        request = lab.request_for(tmp_path, base, tracking=target(uri, "silent"))
        monkeypatch.setattr(tracking.Recorder.publish, "__defaults__", (0.0,))
        with pytest.raises(Exception, match="timed out"):
            train(request)
    (record,) = (tmp_path / "store" / "keys" / "train").glob("*.json")
    assert (tmp_path / "store" / "models" / json.loads(record.read_text())["result"]["digest"]).is_dir()


def test_the_journal_outlives_a_kill_in_the_middle_of_a_line_and_a_power_cut(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.record({"loss": 0.5}, 1)
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('["loss", 0.4')
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b"\n\x00\xff\xfe\n")
    again = Journal(tmp_path / "journal.jsonl")
    again.record({"loss": 0.5}, 1)
    again.record({"loss": 0.3}, 2)
    kept = [(point.step, point.value) for point in Journal(tmp_path / "journal.jsonl").points]
    assert kept == [(1, 0.5), (2, 0.3)]


def test_what_waiting_cannot_mend_is_not_waited_for():
    calls = []

    def refused():
        calls.append(1)
        raise MlflowException("no", error_code=PERMISSION_DENIED)

    with pytest.raises(MlflowException):
        tracking.patiently(refused, outage_seconds=600)
    assert len(calls) == 1
