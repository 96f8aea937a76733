import json
import socket
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training environment")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.servers import free_port, mlflow_server
from tests.tiny import tiny_checkpoint
from tests.training import lab
from tests.training.tracked import FACTS, models_of, runs_of, target
from training import tracking
from training.model import model_digest
from training.tracking import Journal, Recorder
from training.train import train

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of torch, transformers and mlflow: theirs to mend
    pytest.mark.usefixtures("quick_tracking"),
]


@pytest.fixture(scope="module")
def server(tracking_server):
    return tracking_server


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


def test_a_lost_answer_to_any_call_leaves_one_run_one_model_one_version(server, classifier, tmp_path):
    digest = model_digest(classifier)
    lost = []
    for nth in range(1, 100):
        name = f"lost-{nth}"
        journal = Journal(tmp_path / name / "journal.jsonl")
        journal.record({"loss": 0.5}, 1)
        client = LosesAnswers(MlflowClient(server, server), nth)
        first = Recorder(target(server, name), "k" * 64, FACTS, journal, client)
        try:
            first.publish(classifier, digest, tmp_path / name, outage_seconds=0)
        except MlflowException:
            lost.append(client.lost)
        else:
            break
        again = Recorder(target(server, name), "k" * 64, FACTS, Journal(tmp_path / name / "journal.jsonl"))
        published = again.publish(classifier, digest, tmp_path / name, outage_seconds=0)
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


def test_a_run_tells_what_was_trained_on_what_and_how(server, champion):
    request, result = champion
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
        assert "/data-reports/" in tags["ratchet.data_report"]
    told = json.loads(Path(client.download_artifacts(result.run_id, "data/objects.json")).read_text())
    assert told["snapshot"] == request.snapshot
    assert [Path(one["name"]).name for one in told["objects"]] == ["test.jsonl", "train.jsonl", "validation.jsonl"]
    assert {one["rows"] for one in told["objects"]} == {10, 48, 20}
    assert all(one["version"] and one["batch"] for one in told["objects"])


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


def test_a_run_that_nobody_took_up_again_for_a_week_is_killed_and_none_that_lives(server, classifier, tmp_path):
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
    recorder.publish(classifier, model_digest(classifier), tmp_path)
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
