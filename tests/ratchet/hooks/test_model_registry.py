"""What is absent from MLflow is told from what MLflow cannot say: a champion must never seem to be missing."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException
from mlflow.exceptions import MlflowException

from ratchet.hooks import model_registry
from ratchet.hooks.address import base_url
from ratchet.hooks.model_registry import ModelRegistryHook
from tests.servers import mlflow_server
from training.contract import Unreachable


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


def registry(url):
    hook = ModelRegistryHook()
    hook.__dict__["_connection"] = Connection(conn_id="mlflow_default", conn_type="http", host=url)
    return hook


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        api = f"{url}/api/2.0/mlflow"
        run = httpx.post(f"{api}/runs/create", json={"experiment_id": "0"}, trust_env=False).json()["run"]["info"]
        source = f"{run['artifact_uri']}/model"
        for path, body in (
            ("registered-models/create", {"name": "intents"}),
            ("model-versions/create", {"name": "intents", "source": source, "run_id": run["run_id"]}),
        ):
            httpx.post(f"{api}/{path}", json=body, trust_env=False).raise_for_status()
        yield url


@pytest.mark.parametrize("reference", ["models:/nobody/1", "models:/nobody@champion", "models:/intents@champion"])
def test_what_does_not_exist_is_none(mlflow, reference):
    assert registry(mlflow).find_version(reference) is None


def test_a_version_is_found_by_number_and_by_alias_until_the_alias_goes(mlflow):
    hook = registry(mlflow)
    version = hook.find_version("models:/intents/1")
    hook.set_alias(version, "challenger")
    assert hook.find_version("models:/intents@challenger") == version
    hook.end_challenge(version)
    assert hook.find_version("models:/intents@challenger") is None


def test_a_card_lies_beside_the_models_files_and_is_replaced_by_the_next(mlflow, tmp_path):
    hook = registry(mlflow)
    (tmp_path / "config.json").write_text("{}")
    model = hook.client.create_logged_model("0", "model")
    hook.client.log_model_artifacts(model.model_id, str(tmp_path), "artifacts/model")
    hook.client.finalize_logged_model(model.model_id, "READY")
    hook.client.create_registered_model("carded")
    hook.client.create_model_version("carded", f"models:/{model.model_id}", model_id=model.model_id)
    version = hook.find_version("models:/carded/1")
    for text in ("# the first", "# the second"):
        hook.keep_card(version, text)
    place = Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "model"
    assert {path.name: path.read_text() for path in place.iterdir()} == {
        "config.json": "{}",
        "README.md": "# the second",
    }
    hook.keep_card(hook.find_version("models:/intents/1"), "# of files that are no model of MLflow's")


def test_versions_and_their_runs_metrics_are_listed_over_all_pages(mlflow, monkeypatch):
    monkeypatch.setattr(model_registry, "AT_ONCE", 2)
    hook = registry(mlflow)
    client = hook.client
    experiment = client.create_experiment("ratchet/listed")
    client.create_registered_model("listed")
    infos = [client.create_run(experiment).info for _ in range(5)]
    runs = [info.run_id for info in infos]
    for number, info in enumerate(infos):
        client.log_metric(info.run_id, "test_accuracy", number / 10)
        source = f"{info.artifact_uri}/model"
        client.create_model_version("listed", source, info.run_id, tags={"ratchet.verdict": "hold"})
    hook.set_alias(hook.find_version("models:/listed/4"), "champion")
    listed = hook.list_versions("listed")
    assert {"intents", "listed"} <= set(hook.list_models())
    assert [(one.version, one.aliases) for one in listed] == [
        ("5", ()),
        ("4", ("champion",)),
        ("3", ()),
        ("2", ()),
        ("1", ()),
    ]
    assert listed[0].tags == {"ratchet.verdict": "hold"}
    assert listed[0].run_id == runs[4]
    assert {run: found["test_accuracy"] for run, found in hook.run_metrics("ratchet/listed").items()} == {
        run: number / 10 for number, run in enumerate(runs)
    }


def test_of_a_model_that_there_is_not_nothing_is_listed(mlflow):
    assert registry(mlflow).list_versions("nobody") == []
    assert registry(mlflow).run_metrics("ratchet/nobody") == {}


def test_an_alias_that_is_gone_may_be_removed_again(mlflow):
    hook = registry(mlflow)
    hook.set_alias(hook.find_version("models:/intents/1"), "previous")
    for _ in range(2):
        hook.remove_alias("intents", "previous")
    assert hook.find_version("models:/intents@previous") is None


def keep(hook, text="<p>1", report="file:///it%27s/data-reports/1"):
    tags = {"ratchet.data_report": report, "airflow.run_id": "run_1"}
    return hook.keep_files("ratchet/intents/data", "intents-1", {"report.html": text}, tags, "ratchet.data_report")


def artifact(hook, run_id):
    return Path(hook.client.download_artifacts(run_id, "report.html")).read_text()


def test_files_are_kept_with_one_run_that_is_found_again_by_its_tag(mlflow):
    hook = registry(mlflow)
    run_id, experiment = keep(hook)
    assert keep(hook, "<p>another") == (run_id, experiment)
    assert artifact(hook, run_id) == "<p>1"
    found = hook.client.get_run(run_id)
    assert (found.info.status, found.info.run_name, found.info.experiment_id) == ("FINISHED", "intents-1", experiment)
    assert found.data.tags["airflow.run_id"] == "run_1"
    other, _experiment = keep(hook, report="it's another")
    assert other != run_id
    assert keep(hook, report="it's another")[0] == other


def test_a_run_that_was_left_half_way_is_finished(mlflow, monkeypatch):
    hook = registry(mlflow)
    with monkeypatch.context() as patch:
        patch.setattr(hook.client, "set_terminated", lambda *args: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(Unreachable, match="did not take it: killed"):
            keep(hook, report="half")
    run_id, experiment = keep(hook, "<p>whole", report="half")
    assert hook.client.get_run(run_id).info.status == "FINISHED"
    assert artifact(hook, run_id) == "<p>whole"
    assert len(hook.client.search_runs([experiment], "tags.`ratchet.data_report` = 'half'")) == 1


def test_files_for_a_server_that_is_away_are_not_waited_for():
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        keep(registry("http://127.0.0.1:9"))


@pytest.fixture
def broken_server():
    """Answers everything with one status and a page, as a proxy does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(b"<html>alias champion not found</html>")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 502, 503])
def test_an_answer_that_is_not_mlflows_never_looks_like_no_champion(broken_server, status):
    broken_server.status = status
    with pytest.raises(MlflowException):
        registry(f"http://127.0.0.1:{broken_server.server_port}").find_version("models:/intents@champion")


def test_a_server_that_is_away_never_looks_like_no_champion():
    with pytest.raises(MlflowException):
        registry("http://127.0.0.1:9").find_version("models:/intents@champion")


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "http://mlflow.example:5000/"}, "http://mlflow.example:5000"),
        ({"host": "mlflow.example", "port": 5000}, "http://mlflow.example:5000"),
        ({"host": "mlflow.example", "schema": "https"}, "https://mlflow.example"),
        ({"host": "https://mlflow.example/base/", "port": 443}, "https://mlflow.example:443/base"),
    ],
)
def test_the_address_of_a_connection(fields, url):
    assert base_url(Connection(conn_id="c", conn_type="http", **fields)) == url


def test_credentials_in_the_host_are_refused_without_being_shown():
    connection = Connection(conn_id="mlflow_default", conn_type="http", host="https://anna:planted@mlflow.example")
    with pytest.raises(AirflowFailException, match="mlflow_default") as error:
        base_url(connection)
    assert "planted" not in str(error.value)
