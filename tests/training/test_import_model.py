"""A model that was trained elsewhere becomes a candidate, or is refused with what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training environment")

import mlflow
from mlflow import MlflowClient

from tests.hub import serve_hub
from tests.tiny import tiny_checkpoint
from tests.training import lab
from tests.training.tracked import runs_of, target
from training import import_model as stage
from training.contract import BadInput, EvaluateRequest, ImportRequest
from training.evaluate import evaluate
from training.import_model import import_model
from training.model import model_digest, resolve_model
from training.store import Store, local_path

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of torch, transformers and mlflow: theirs to mend
    pytest.mark.usefixtures("quick_tracking"),
]

TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
CARD = "---\nlicense: apache-2.0\n---\n# What others trained\n"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """A model as people keep theirs: with a card, and with what it was trained by."""
    directory = tiny_checkpoint(tmp_path_factory.mktemp("elsewhere"), labels=["negative", "positive"])
    (directory / "README.md").write_text(CARD)
    (directory / "training_args.bin").write_bytes(b"a pickle")
    return directory


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A store with a snapshot whose labels are negative and positive."""
    directory = tmp_path_factory.mktemp("world")
    store = Store(str(directory / "store"))
    return ImportRequest(
        pipeline="lab", store=store.root, work=str(directory / "work"), model="", snapshot=lab.put_snapshot(store)
    )


@pytest.fixture
def copy(elsewhere, tmp_path):
    return shutil.copytree(elsewhere, tmp_path / "copy")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_directory_becomes_a_candidate_that_can_be_evaluated(world, elsewhere, tmp_path):
    made = import_model(replace(world, model=str(elsewhere)))
    assert (made.hit, made.source, made.license) == (False, str(elsewhere), "apache-2.0")
    assert made.labels == ["negative", "positive"]
    kept = {path.name for path in local_path(made.model).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= kept
    assert not kept & {"training_args.bin", "README.md"}
    assert made.digest == model_digest(local_path(made.model)) == resolve_model(made.model, tmp_path).digest
    result = evaluate(
        EvaluateRequest(
            pipeline="lab", store=world.store, work=world.work, candidate=made.model, test_set=world.snapshot
        )
    )
    assert result.rows == 10


def test_what_is_beside_a_model_and_not_of_it_stays_where_it_is(world, copy):
    for name in ("customers.txt", "credentials.json", "emails.jinja", "other.safetensors", "spam.model"):
        (copy / name).write_text("somebody's own")
    made = import_model(replace(world, model=str(copy)))
    kept = {path.name for path in local_path(made.model).iterdir()}
    assert kept <= {"config.json", "model.safetensors", "manifest.json", "vocab.txt", *TOKENIZER_FILES}


def test_a_link_that_leads_out_of_the_directory_is_not_followed(world, copy, tmp_path):
    (tmp_path / "passwords").write_text("{}")
    (copy / "special_tokens_map.json").unlink(missing_ok=True)
    (copy / "special_tokens_map.json").symlink_to(tmp_path / "passwords")
    with pytest.raises(BadInput, match=r"special_tokens_map.json is a link to .*passwords.*cp -rL"):
        import_model(replace(world, model=str(copy)))
    (copy / "special_tokens_map.json").unlink()
    (copy / "vocab.json").symlink_to("tokenizer.json")
    assert import_model(replace(world, model=str(copy))).digest


def test_a_directory_that_changes_while_it_is_read_is_not_taken_for_what_it_was(world, copy, monkeypatch):
    change(copy / "config.json", hidden_dropout_prob=0.15)
    whole = stage._copy

    def changing(source, *rest):
        change(copy / "config.json", hidden_dropout_prob=0.3)
        whole(source, *rest)

    monkeypatch.setattr(stage, "_copy", changing)
    with pytest.raises(BadInput, match="changed while it was read"):
        import_model(replace(world, model=str(copy)))
    monkeypatch.undo()
    made = import_model(replace(world, model=str(copy)))
    assert not made.hit
    assert json.loads((local_path(made.model) / "config.json").read_text())["hidden_dropout_prob"] == 0.3


def dangling(copy):
    (copy / "added_tokens.json").symlink_to("nowhere")


def looping(copy):
    (copy / "added_tokens.json").symlink_to("added_tokens.json")


def directory(copy):
    (copy / "vocab.json").mkdir()


def pipe(copy):
    os.mkfifo(copy / "merges.txt")


def gap(copy):
    change(copy / "config.json", id2label={"0": "negative", "2": "positive"})


def no_manifest(copy):
    (copy / "manifest.json").write_text("[]")


def broken_manifest(copy):
    (copy / "manifest.json").write_text("{")


def not_utf8(copy):
    Path(os.fsdecode(os.fsencode(copy) + b"/caf\xe9.txt")).touch()


def no_number(copy):
    change(copy / "config.json", hidden_dropout_prob=float("nan"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (dangling, "added_tokens.json is no file"),
        (looping, "added_tokens.json is no file"),
        (directory, "vocab.json is no file"),
        (pipe, "merges.txt is no file"),
        (gap, "does not have the ids from 0 to 1"),
        (no_manifest, "manifest.json is not the JSON of a model"),
        (broken_manifest, "manifest.json is not the JSON of a model"),
        (not_utf8, "is not UTF-8. Rename it"),
        (no_number, "cannot answer .* got nan"),
    ],
)
def test_a_directory_that_is_no_whole_model_is_told_from_a_fault_that_passes(world, copy, fault, message):
    change(copy / "config.json", fault=fault.__name__)  # so that it is none that was imported before
    fault(copy)
    with pytest.raises(BadInput, match=message):
        import_model(replace(world, model=str(copy)))


def test_names_that_nobody_can_read_are_told_in_short_and_hinder_nothing(world, copy, tmp_path):
    (copy / ("n" * 250)).touch()
    assert import_model(replace(world, model=str(copy))).digest
    endless = tiny_checkpoint(tmp_path / "endless", labels=["n" * 100_000, "p" * 100_000])
    with pytest.raises(BadInput) as refused:
        import_model(replace(world, model=str(endless)))
    assert len(str(refused.value)) < 2000


def test_the_same_files_from_another_place_and_with_a_licence_are_told_as_they_are_now(world, elsewhere, copy):
    shutil.rmtree(copy)
    shutil.copytree(elsewhere, copy)
    (copy / "README.md").unlink()
    change(copy / "config.json", hidden_dropout_prob=0.25)
    first = import_model(replace(world, model=str(copy)))
    assert first.license is None
    moved = copy.rename(copy.with_name("moved"))
    (moved / "README.md").write_text(CARD)
    again = import_model(replace(world, model=str(moved)))
    assert (again.hit, again.digest) == (True, first.digest)
    assert (again.source, again.license) == (str(moved), "apache-2.0")
    manifest = json.loads((local_path(again.model) / "manifest.json").read_text())
    assert manifest["imported"] == {"from": str(moved), "license": "apache-2.0", "renamed": {}}


def test_the_same_model_again_is_a_hit_and_another_one_is_not(world, elsewhere, copy, monkeypatch):
    request = replace(world, model=str(elsewhere))
    first = import_model(request)
    change(copy / "config.json", hidden_dropout_prob=0.2)
    assert import_model(replace(world, model=str(copy))).digest != first.digest
    monkeypatch.setattr(stage, "_fetch", None)
    again = import_model(request)
    assert (again.hit, again.digest, again.key) == (True, first.digest, first.key)
    assert again.why.startswith("hit")


def test_labels_get_the_names_that_the_data_has(world, tmp_path):
    unnamed = tiny_checkpoint(tmp_path / "unnamed", labels=["LABEL_0", "LABEL_1"])
    before = model_digest(unnamed)
    request = replace(world, model=str(unnamed))
    with pytest.raises(BadInput) as refused:
        import_model(request)
    told = str(refused.value)
    assert "it knows none of the labels of the test split, 'negative', 'positive'" in told
    assert "Its own labels are 'LABEL_0', 'LABEL_1'. Nobody named them" in told
    assert "--label LABEL_0=negative" in told
    made = import_model(replace(request, labels={"LABEL_0": "positive", "LABEL_1": "negative"}))
    assert made.labels == ["positive", "negative"]
    config = json.loads((local_path(made.model) / "config.json").read_text())
    assert (config["id2label"], config["label2id"]) == (
        {"0": "positive", "1": "negative"},
        {"positive": 0, "negative": 1},
    )
    assert model_digest(unnamed) == before


def test_a_label_that_only_the_data_has_is_named(world, tmp_path):
    other = tiny_checkpoint(tmp_path / "other", labels=["negative", "neutral"])
    with pytest.raises(BadInput, match=r"the test split has rows of 'positive', which it does not know"):
        import_model(replace(world, model=str(other)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"LABEL_0": "negative"}, "knows no label 'LABEL_0', only 'negative', 'positive'"),
        ({"negative": "positive"}, "two of its labels would get the same name"),
    ],
)
def test_names_that_do_not_fit_are_refused(world, elsewhere, labels, message):
    with pytest.raises(BadInput, match=message):
        import_model(replace(world, model=str(elsewhere), labels=labels))


def test_what_could_not_be_evaluated_does_not_enter(world, copy, tmp_path):
    def refused(message, directory=copy):
        with pytest.raises(BadInput, match=message):
            import_model(replace(world, model=str(directory)))

    before = set((local_path(world.store) / "models").glob("*"))
    refused("no classification head", tiny_checkpoint(tmp_path / "base"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(r"Pickled weights \(pytorch_model.bin, training_args.bin\).*save_pretrained")
    (copy / "pytorch_model.bin").rename(copy / "model.safetensors")
    change(copy / "config.json", problem_type="multi_label_classification")
    refused("multi_label_classification")
    change(copy / "config.json", problem_type=None, vocab_size=20)
    refused("cannot be loaded|lack")
    assert set((local_path(world.store) / "models").glob("*")) == before


def test_a_model_without_a_tokenizer_of_its_own_is_refused(world, copy):
    for path in [*copy.glob("tokenizer*"), *copy.glob("vocab*")]:
        path.unlink()
    with pytest.raises(BadInput, match="has no tokenizer: every text would be unknown to it"):
        import_model(replace(world, model=str(copy)))


def test_a_model_that_answers_nan_is_refused(world, copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    weights["classifier.bias"].fill_(float("nan"))
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="answers NaN"):
        import_model(replace(world, model=str(copy)))


def test_a_tokenizer_that_has_to_be_converted_is_converted_once(world, copy):
    (copy / "tokenizer.json").unlink()
    made = import_model(replace(world, model=str(copy)))
    assert (local_path(made.model) / "tokenizer.json").exists()


def test_nothing_is_left_in_the_work_directory(world, elsewhere, copy):
    import_model(replace(world, model=str(elsewhere)))
    change(copy / "config.json", problem_type="regression")
    with pytest.raises(BadInput):
        import_model(replace(world, model=str(copy)))
    work = local_path(f"file://{world.work}") / "import"
    assert {path.name for path in work.rglob("*") if path.is_file()} == {"lock"}


def test_a_model_of_the_hub_keeps_its_commit_and_is_fetched_once(world, elsewhere, tmp_path):
    """In processes of their own: the client reads its environment once."""
    files = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    with serve_hub() as hub:
        first = hub.commit("acme/films", files, kind="model")

        def run(model):
            request = replace(world, model=model, store=str(tmp_path / "store"), work=str(tmp_path / "work"))
            (tmp_path / "request.json").write_text(request.to_json())
            subprocess.run(
                [sys.executable, "-m", "training", "import", "--in", "request.json", "--out", "result.json"],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "HF_ENDPOINT": hub.url,
                    "HF_HUB_DISABLE_TELEMETRY": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
                check=True,
                stdout=subprocess.DEVNULL,
            )
            return json.loads((tmp_path / "result.json").read_text())

        made = run("hf://acme/films@main")
        assert (made["source"], made["license"], made["hit"]) == (f"acme/films@{first}", "apache-2.0", False)
        fetched = [request for request in hub.requests if "safetensors" in request]
        again = run("acme/films")
        assert (again["hit"], again["digest"]) == (True, made["digest"])
        assert [request for request in hub.requests if "safetensors" in request] == fetched
        assert not [request for request in fetched if "training_args.bin" in request]
        hub.commit("acme/films", {**files, "README.md": CARD.replace("apache-2.0", "mit").encode()}, kind="model")
        moved = run("acme/films")
        assert (moved["hit"], moved["digest"], moved["license"]) == (False, made["digest"], "mit")


class TestRegistry:
    """With a real MLflow server."""

    @pytest.fixture
    def server(self, tracking_server):
        mlflow.set_tracking_uri(tracking_server)
        return tracking_server

    def test_it_is_a_version_that_says_where_it_is_from(self, server, world, elsewhere, tmp_path):
        request = replace(world, model=str(elsewhere), tracking=target(server, "imported"))
        made, again = import_model(request), import_model(request)
        assert (made.version, again.version, again.run_id) == ("1", "1", made.run_id)
        client = MlflowClient(server, server)
        tags = client.get_model_version("imported", "1").tags
        assert (tags["ratchet.imported"], tags["ratchet.license"]) == (str(elsewhere), "apache-2.0")
        assert (tags["ratchet.model_digest"], tags["ratchet.key"]) == (made.digest, made.key)
        assert "ratchet.snapshot" not in tags  # it was not trained on it
        moved = shutil.copytree(elsewhere, tmp_path / "moved")
        (moved / "README.md").unlink()
        assert import_model(replace(request, model=str(moved))).version == "1"
        tags = client.get_model_version("imported", "1").tags
        assert tags["ratchet.imported"] == str(moved)
        assert "ratchet.license" not in tags
        [run] = runs_of(client, "imported")
        assert run.info.status == "FINISHED"
        assert resolve_model("models:/imported/1", tmp_path, server).digest == made.digest

    def test_a_version_of_another_pipeline_is_taken_with_its_weights(self, server, world, elsewhere):
        first = import_model(replace(world, model=str(elsewhere), tracking=target(server, "origin")))
        request = replace(world, model="models:/origin/1", tracking=target(server, "taken-over"))
        made = import_model(request)
        assert (made.source, made.digest, made.version) == ("models:/origin/1", first.digest, "1")

    def test_a_model_that_was_trained_here_keeps_what_is_known_of_its_training(self, server, world, champion):
        request, trained = champion
        made = import_model(
            replace(
                world,
                store=request.store,
                model=f"models:/lab/{trained.version}",
                tracking=target(server, "promoted-elsewhere"),
            )
        )
        assert made.digest == trained.digest
        manifest = json.loads((local_path(made.model) / "manifest.json").read_text())
        assert "training" in manifest
