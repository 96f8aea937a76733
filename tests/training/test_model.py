import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs the training environment")

import mlflow
from mlflow import MlflowClient
from mlflow.types import ColSpec, Schema

from tests.hub import serve_hub
from tests.tiny import tiny_checkpoint
from training.contract import BadInput, Tracking, Unreachable
from training.model import (
    find_model,
    model_digest,
    model_identity,
    put_model,
    resolve_model,
)
from training.store import Store, local_path
from training.tags import MODEL_TAG

pytestmark = pytest.mark.filterwarnings("default")  # of torch, transformers and mlflow: theirs to mend


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("model"), labels=["negative", "positive"])


def test_a_path_and_a_uri_of_the_store_name_the_same_model(checkpoint, tmp_path):
    uri, digest = put_model(checkpoint, Store(str(tmp_path / "a store")), {"labels": ["negative", "positive"]})
    assert resolve_model(uri, tmp_path).digest == resolve_model(str(checkpoint), tmp_path).digest == digest
    assert model_identity(uri, tmp_path) == model_identity(str(checkpoint), tmp_path) == digest


def test_the_digest_depends_on_content_alone(checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    assert model_digest(copy) == model_digest(checkpoint)
    (copy / "README.md").write_text("# What is said of it may be said anew")
    assert model_digest(copy) == model_digest(checkpoint)
    (copy / "config.json").write_text("{}")
    assert model_digest(copy) != model_digest(checkpoint)


def test_a_damaged_model_of_the_store_is_refused(checkpoint, tmp_path):
    uri, digest = put_model(checkpoint, Store(str(tmp_path)), {})
    (tmp_path / "models" / digest / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=f"not {digest[:12]} as recorded"):
        resolve_model(uri, tmp_path)


def test_pickled_weights_are_refused_with_the_way_out(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin.*save_pretrained"):
        resolve_model(str(tmp_path / "pickled"), tmp_path)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("file:///nowhere/models/abc", "does not exist"),
        ("./nowhere at all", "neither a directory on this machine nor a Hub id"),
        ("models:/name", "expected models:/NAME/VERSION"),
    ],
)
def test_a_reference_that_leads_nowhere_says_so(reference, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        resolve_model(reference, tmp_path)


@pytest.mark.parametrize("fetch", [resolve_model, model_identity])
def test_a_hub_that_cannot_be_reached_is_named_with_the_model_and_the_way_out(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # the port where nobody answers
    with pytest.raises(Unreachable) as raised:
        fetch("acme/base", tmp_path)
    told = str(raised.value)
    assert "The model 'acme/base' could not be fetched: http://127.0.0.1:9 cannot be reached (" in told
    assert "Connection refused" in told
    assert "train.base_model" in told
    assert "\n" not in told


def test_a_hub_commit_is_an_identity_without_asking_the_hub(tmp_path):
    reference = f"acme/model@{'a' * 40}"
    assert model_identity(reference, tmp_path) == reference


def test_of_a_model_on_the_hub_the_tokenizer_comes_without_the_weights(tmp_path):
    wanted = ["config.json", "tokenizer.json", "vocab.txt"]
    code = "import os; from training.model import find_tokenizer; print(*os.listdir(find_tokenizer('acme/base@main')))"
    with serve_hub() as hub:
        hub.commit("acme/base", dict.fromkeys([*wanted, "model.safetensors", "model.bin"], b"{}"), kind="model")
        asked = subprocess.run(
            [sys.executable, "-c", code],  # a process of its own: the client reads its environment once
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert sorted(asked.stdout.split()) == wanted
    assert [one for one in hub.requests if "safetensors" in one] == []


class TestRegistry:
    """Models of a real MLflow server."""

    @pytest.fixture
    def server(self, tracking_server):
        return tracking_server

    @pytest.fixture
    def client(self, server, monkeypatch):
        monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        mlflow.set_tracking_uri(server)
        return MlflowClient(server, server)

    def register(self, client, name, folder, tags=None):
        """Register a saved MLflow model that Ratchet did not make."""
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(folder), "model")
        client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/model"
        return client.create_model_version(name, source, run_id=run.info.run_id, tags=tags).version

    @pytest.fixture
    def flavoured(self, checkpoint, tmp_path):
        """The layout of mlflow.transformers: model and tokenizer apart."""
        folder = tmp_path / "flavoured"
        shutil.copytree(checkpoint, folder / "model", ignore=shutil.ignore_patterns("tokenizer*", "vocab*"))
        (folder / "components" / "tokenizer").mkdir(parents=True)
        for path in [*checkpoint.glob("tokenizer*"), *checkpoint.glob("vocab*")]:
            shutil.copy(path, folder / "components" / "tokenizer")
        model = mlflow.models.Model()
        model.add_flavor("transformers", task="text-classification")
        model.signature = mlflow.models.ModelSignature(inputs=Schema([ColSpec("string")]))
        model.save(str(folder / "MLmodel"))
        return folder

    def test_a_model_of_the_transformers_flavour_becomes_one_checkpoint(self, client, server, flavoured, checkpoint):
        version = self.register(client, "flavoured", flavoured)
        client.set_registered_model_alias("flavoured", "champion", version)
        found = resolve_model("models:/flavoured@champion", flavoured.parent, server)
        assert found.name == "models:/flavoured/1"
        assert found.digest == model_digest(checkpoint)

    def test_an_artifact_that_differs_from_its_tag_is_refused(self, client, server, flavoured):
        version = self.register(client, "tampered", flavoured, {MODEL_TAG: "0" * 64})
        with pytest.raises(BadInput, match="not 000000000000 as recorded"):
            resolve_model(f"models:/tampered/{version}", flavoured.parent, server)

    def test_a_damaged_copy_is_fetched_again(self, client, server, flavoured, checkpoint, tmp_path):
        version = self.register(client, "copied", flavoured, {MODEL_TAG: model_digest(checkpoint)})
        first = resolve_model(f"models:/copied/{version}", tmp_path, server)
        (first.path / "model.safetensors").write_bytes(b"damaged")
        again = resolve_model(f"models:/copied/{version}", tmp_path, server)
        assert again == first
        assert model_digest(again.path) == first.digest

    @pytest.mark.parametrize("left", ["nothing", "an empty folder", "all but the weights"])
    def test_a_version_whose_files_are_gone_is_named_at_once(self, client, server, flavoured, tmp_path, left):
        name = f"gone-{left.replace(' ', '-')}"
        version = self.register(client, name, flavoured)
        place = local_path(client.get_model_version(name, version).source)
        if left == "all but the weights":
            (place / "model" / "model.safetensors").unlink()
        else:
            shutil.rmtree(place)
        if left == "an empty folder":
            place.mkdir()
        expected = "no .safetensors weights" if left == "all but the weights" else "its files are gone"
        with pytest.raises(BadInput, match=f"models:/{name}/{version}: .*{expected}"):
            find_model(
                f"models:/{name}/{version}", str(tmp_path), Tracking(uri=server, experiment="x", model_name=name)
            )

    def test_a_version_that_does_not_exist_is_named(self, client, server, tmp_path):
        with pytest.raises(BadInput, match=r"models:/nobody/7 is not in the MLflow registry"):
            resolve_model("models:/nobody/7", tmp_path, server)
