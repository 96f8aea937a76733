from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.release import read_release
from tests.tiny import tiny_checkpoint
from training import evaluate as evaluation
from training import serving_figures
from training.answers import read_answers
from training.classifier import load_classifier
from training.contract import BadInput, EvaluateRequest, IngestRequest, PackageRequest, Reading, Tracking, Unreachable
from training.evaluate import evaluate, evaluate_parts
from training.evidence import read_evidence
from training.forgotten import Forgotten
from training.gate import decide
from training.golden import golden_examples
from training.ingest import ingest
from training.package import package
from training.rules import Rules
from training.slices import NEW
from training.snapshot import read_split
from training.store import Store, local_path
from training.testset import read_test_set
from training.text import identity_of, text_hash

LABELS = ["neg", "neu", "pos"]
TEXTS = [
    f"the {noun} was {word} {'very ' * n}" for noun in ("film", "book") for word in ("good", "bad") for n in range(5)
]


def write_parquet(path, texts=TEXTS, labels=None, columns=("text", "label")):
    labels = [LABELS[i % 3] for i in range(len(texts))] if labels is None else labels
    pq.write_table(pa.table(dict(zip(columns, (texts, labels), strict=True))), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "candidate": tiny_checkpoint(root / "candidate", LABELS, seed=1),
        "champion": tiny_checkpoint(root / "champion", LABELS, seed=2),
        "base": tiny_checkpoint(root / "base"),
    }


@pytest.fixture(autouse=True)
def quick_memory(monkeypatch):
    """No process is started for each release; tests/training/test_serving_figures.py does."""
    monkeypatch.setattr(serving_figures, "memory_of", lambda _directory: 1_000_000)


@pytest.fixture
def request_(models, tmp_path):
    return EvaluateRequest(
        pipeline="films",
        store=str(tmp_path / "store"),
        work=str(tmp_path / "work"),
        candidate=str(models["candidate"]),
        champion=str(models["champion"]),
        test_set=str(write_parquet(tmp_path / "test.parquet")),
        batch_size=4,
        golden_examples=5,
    )


def read(uri):
    return json.loads(Path(uri.removeprefix("file://")).read_text())


def test_the_report_satisfies_the_gate_and_holds_both_models(request_):
    result = evaluate(request_)
    report = read(result.report)
    assert report["test_set"]["labels"] == LABELS
    assert report["candidate"]["metrics"] == result.metrics
    assert report["champion"]["metrics"] == result.champion_metrics
    verdict = decide(report, read_evidence(report), Rules(no_worse_by=1.0))
    assert verdict.decision == "promote"
    assert verdict.champion["digest"] == report["champion"]["digest"] != report["candidate"]["digest"]


def test_what_a_model_is_judged_by_is_what_its_release_answers(request_, monkeypatch):
    ask = serving_figures.ask_release

    def answers_the_next_label(*asked):
        answers, figures = ask(*asked)
        return replace(answers, scores=np.roll(answers.scores, 1, axis=1)), figures

    monkeypatch.setattr(serving_figures, "ask_release", answers_the_next_label)
    report = read(evaluate(replace(request_, champion=None)).report)
    with Path(report["predictions"]["candidate"].removeprefix("file://")).open("rb") as file:
        kept = read_answers(file)
    trained = load_classifier(Path(request_.candidate), "candidate").score(TEXTS, 4)
    assert np.abs(kept.scores - np.roll(trained, 1, axis=1)).max() < 0.05
    right = [LABELS[i % 3] == answer for i, answer in enumerate(kept.predictions)]
    assert report["candidate"]["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    agreement = report["candidate"]["serving"]["agreement"]
    assert agreement["labels"] == 0.0
    assert agreement["largest_difference"] == pytest.approx(np.abs(kept.scores - trained).max())


def test_the_release_that_was_judged_is_the_one_that_is_deployed(request_):
    result = evaluate(request_)
    report = read(result.report)
    deployed = package(
        PackageRequest(
            pipeline="films",
            store=request_.store,
            work=request_.work,
            model=request_.candidate,
            golden=result.golden,
        )
    )
    assert deployed.hit
    assert deployed.release == result.release == report["candidate"]["serving"]["release"]
    release = read_release(local_path(result.release))
    assert release.model_digest == report["candidate"]["digest"]
    assert release.golden().texts == read(result.golden)["texts"]


def test_what_serving_costs_is_measured_once(request_):
    serving = read(evaluate(request_).report)["candidate"]["serving"]
    assert 0 < serving["latency_ms"]["p50"] <= serving["latency_ms"]["p95"] <= serving["latency_ms"]["p99"]
    assert serving["throughput"] > 0
    assert serving["memory_bytes"] == 1_000_000
    files = [path for path in local_path(serving["release"]).rglob("*") if path.parent.name in ("model", "openvino")]
    assert serving["disk_bytes"] == sum(path.stat().st_size for path in files if path.is_file())
    other_report = read(evaluate(replace(request_, champion=None)).report)
    assert other_report["candidate"]["serving"] == serving


def test_a_candidate_that_cannot_be_packaged_is_refused_and_nothing_is_judged(request_, monkeypatch, tmp_path):
    def cannot(_classifier, _path):
        raise BadInput("OpenVINO cannot convert it")

    monkeypatch.setattr("training.package.convert", cannot)
    with pytest.raises(BadInput, match=r"The candidate .* cannot be served, so nothing was judged: OpenVINO cannot"):
        evaluate(request_)
    assert not (tmp_path / "store" / "evaluations").exists()


def test_a_text_that_is_forgotten_meanwhile_gets_into_no_release(request_, monkeypatch, tmp_path):
    def forgets_meanwhile(*chosen):
        Forgotten().with_more([identity_of(TEXTS[0])], []).write(Store(request_.store))
        return golden_examples(*chosen)

    monkeypatch.setattr("training.examine.golden_examples", forgets_meanwhile)
    with pytest.raises(Unreachable, match="were forgotten while this step worked"):
        evaluate(request_)
    assert not (tmp_path / "store" / "releases").exists()


@pytest.mark.parametrize("role", ["champion", "best"])
def test_what_is_gone_or_damaged_is_never_taken_for_none(request_, models, tmp_path, role):
    gone = (tmp_path / "gone").as_uri()
    with pytest.raises(
        BadInput, match=f"The {role}.* cannot be compared with, so nothing was judged. .*does not exist"
    ):
        evaluate(replace(request_, **{role: gone}))
    damaged = shutil.copytree(models["champion"], tmp_path / ("d" * 64))
    with pytest.raises(
        BadInput, match=f"The {role}.* cannot be compared with, so nothing was judged. .*not dddddddddddd"
    ):
        evaluate(replace(request_, **{role: damaged.as_uri()}))
    assert not (tmp_path / "store" / "evaluations").exists()


def test_the_best_version_and_a_baseline_stand_beside_the_champion(request_, tmp_path):
    best = tiny_checkpoint(tmp_path / "best", LABELS, seed=3)
    report = read(evaluate(replace(request_, best=str(best), baseline="majority")).report)
    digests = {report[role]["digest"] for role in ("candidate", "champion", "best", "baseline")}
    assert len(digests) == 4
    assert report["best"]["serving"]["release"] != report["candidate"]["serving"]["release"]
    assert report["baseline"]["serving"] is None
    assert report["baseline"]["metrics"]["accuracy"] == pytest.approx(7 / 20)
    for uri in report["predictions"].values():
        assert pq.read_table(uri.removeprefix("file://")).num_rows == len(TEXTS)
    assert decide(report, read_evidence(report), Rules(no_worse_by=1.0)).decision == "promote"


def test_a_release_in_an_object_store_is_asked_where_it_is_copied_to_and_the_copy_goes(request_, bucket, tmp_path):
    remote = replace(request_, store="s3://acme/store", champion=None)
    result = evaluate(remote)
    assert result.release.startswith("s3://acme/store/releases/")
    assert evaluate(remote).hit
    store = Store(remote.store)
    report = store.read_json(store.key(result.report))
    assert report["candidate"]["serving"]["disk_bytes"] > 0
    assert not list(tmp_path.rglob("model.xml"))


def test_an_evaluation_whose_answers_or_release_were_removed_is_made_again(request_):
    first = evaluate(request_)
    for place in (local_path(first.release), local_path(read(first.report)["predictions"]["champion"]).parent):
        shutil.rmtree(place)
        again = evaluate(request_)
        assert not again.hit
        assert again.release == first.release
        assert evaluate(request_).hit


def test_every_prediction_is_kept_in_the_order_of_the_test_set(request_):
    report = read(evaluate(request_).report)
    table = pq.read_table(report["predictions"]["candidate"].removeprefix("file://"))
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == [LABELS[i % 3] for i in range(len(TEXTS))]
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert report["candidate"]["metrics"]["accuracy"] == pytest.approx(right / len(rows))
    labels = json.loads(table.schema.metadata[b"labels"])
    assert all(labels[int(np.argmax(row["scores"]))] == row["prediction"] for row in rows)


def test_batches_do_not_change_the_scores(request_, models):
    classifier = load_classifier(models["candidate"], "candidate")
    together = classifier.score(TEXTS, 64)
    alone = np.vstack([classifier.score([text], 1) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6


def test_unchanged_inputs_are_a_hit_and_a_changed_one_says_what_changed(request_, tmp_path):
    first = evaluate(request_)
    again = evaluate(request_)
    assert (first.hit, first.why) == (False, "miss: first run")
    assert again.hit
    assert replace(again, hit=first.hit, why=first.why) == first
    moved = shutil.copy(tmp_path / "test.parquet", tmp_path / "same-rows.parquet")
    assert evaluate(replace(request_, test_set=str(moved))).hit
    fewer = write_parquet(tmp_path / "fewer.parquet", TEXTS[:-1])
    changed = evaluate(replace(request_, test_set=str(fewer)))
    assert changed.why.startswith("miss: test_set ")
    assert evaluate(replace(request_, force=True)).why == "forced"


def test_an_evaluation_that_was_deleted_is_made_again(request_):
    result = evaluate(request_)
    shutil.rmtree(Path(result.report.removeprefix("file://")).parent)
    again = evaluate(request_)
    assert read(again.report)["candidate"]["metrics"] == result.metrics


def test_a_model_that_was_scored_on_this_test_set_is_not_scored_again(request_):
    first = evaluate(replace(request_, champion=None))
    as_its_own_champion = evaluate(replace(request_, champion=request_.candidate))
    assert as_its_own_champion.hit
    assert as_its_own_champion.metrics == as_its_own_champion.champion_metrics == first.metrics
    assert not evaluate(request_).hit
    swapped = evaluate(replace(request_, candidate=request_.champion, champion=request_.candidate))
    assert swapped.hit
    assert swapped.champion_metrics == first.metrics


def test_asking_for_the_parts_writes_nothing(request_, tmp_path):
    parts = evaluate_parts(request_)
    assert set(parts) >= {"candidate", "champion", "test_set", "code"}
    assert not (tmp_path / "store").exists()


def with_head_order(source, target, order):
    """The same classifier with its labels in another order of ids."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(source)
    labels = [model.config.id2label[i] for i in order]
    model.classifier.weight.data = model.classifier.weight.data[order]
    model.classifier.bias.data = model.classifier.bias.data[order]
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


def test_the_same_classifier_with_reordered_labels_scores_the_same(request_, models, tmp_path):
    reordered = with_head_order(models["candidate"], tmp_path / "reordered", [2, 0, 1])
    report = read(evaluate(replace(request_, champion=str(reordered))).report)
    candidate, champion = report["candidate"], report["champion"]
    assert candidate["digest"] != champion["digest"]
    assert candidate["confusion"] == champion["confusion"]
    assert candidate["metrics"] == pytest.approx(champion["metrics"])


def test_a_label_the_champion_does_not_know_counts_against_it(request_, tmp_path):
    older = tiny_checkpoint(tmp_path / "older", ["neg", "pos", "spam"], seed=3)
    report = read(evaluate(replace(request_, champion=str(older))).report)
    assert report["test_set"]["labels"] == ["neg", "neu", "pos", "spam"]
    assert report["champion"]["unknown_labels"] == ["neu"]
    assert report["candidate"]["unknown_labels"] == []
    assert report["champion"]["labels"]["neu"]["recall"] == 0.0
    assert report["champion"]["metrics"]["log_loss"] > report["candidate"]["metrics"]["log_loss"]
    assert decide(report, read_evidence(report), Rules(no_worse_by=1.0)).decision == "promote"


def test_the_same_weights_as_champion_are_not_scored_twice(request_, models, monkeypatch):
    loaded = []
    load = load_classifier
    monkeypatch.setattr(
        "training.classifier.load_classifier", lambda path, name: loaded.append(name) or load(path, name)
    )
    report = read(evaluate(replace(request_, champion=str(models["candidate"]))).report)
    assert len(loaded) == 2, "to score it, and to package it"
    assert report["champion"]["metrics"] == report["candidate"]["metrics"]


def test_the_first_run_has_no_champion(request_):
    result = evaluate(replace(request_, champion=None))
    report = read(result.report)
    assert report["champion"] is result.champion_metrics is report["predictions"]["champion"] is None
    assert decide(report, read_evidence(report), Rules()).decision == "promote"


def test_a_snapshot_is_a_test_set(request_, tmp_path):
    store = Store(str(tmp_path / "store #1"))
    source, test = tmp_path / "rows.csv", tmp_path / "test.parquet"
    source.write_text("text,label\n" + "".join(f"row {i},{LABELS[i % len(LABELS)]}\n" for i in range(100)))
    write_parquet(test)
    reading = Reading(source=str(source), test=str(test), text="text", label="label")
    snapshot = ingest(IngestRequest(pipeline="reviews", store=store.root, reading=reading)).snapshot
    rows = read_split(store, store.key(snapshot), "test")
    assert {text for text, _ in rows} == set(TEXTS)
    by_snapshot = evaluate(replace(request_, test_set=snapshot))
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    pq.write_table(table, tmp_path / "same.parquet")
    by_file = evaluate(replace(request_, test_set=str(tmp_path / "same.parquet")))
    assert by_file.hit
    assert by_snapshot.key == by_file.key


def test_a_hit_is_what_the_next_miss_is_explained_against(request_, models):
    evaluate(request_)
    evaluate(replace(request_, golden_examples=6))
    assert evaluate(request_).hit
    again = evaluate(replace(request_, candidate=str(models["champion"]), golden_examples=7, batch_size=2))
    assert "golden_examples 5 -> 7" in again.why


def test_other_column_names_are_given_in_the_request(request_, tmp_path):
    path = write_parquet(tmp_path / "other.parquet", columns=("utterance", "intent"))
    assert evaluate(replace(request_, test_set=path.as_uri(), text="utterance", label="intent")).rows == len(TEXTS)
    with pytest.raises(BadInput, match="no column text, label; it has utterance, intent"):
        evaluate(replace(request_, test_set=str(path)))


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ([], [], "is empty"),
        (["good", "  "], ["pos", "neg"], "row 1 has no text"),
        (["good", None], ["pos", "neg"], "row 1 has no text"),
        (["good", "bad"], ["pos", None], "row 1 has no label"),
        (["good", "bad"], ["pos", "awful"], "does not know: 'awful'; it knows 'neg', 'neu', 'pos'"),
        (["good", "bad"], [0, 1], "does not know: '0', '1'"),
    ],
)
def test_a_test_set_that_cannot_judge_is_refused(request_, tmp_path, texts, labels, message):
    types = {"text": pa.string()} if not texts else {}
    table = pa.table({"text": pa.array(texts, types.get("text")), "label": labels})
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(BadInput, match=message):
        evaluate(replace(request_, test_set=str(tmp_path / "bad.parquet")))
    assert not (tmp_path / "store" / "evaluations").exists()


def test_labels_of_a_test_set_are_read_as_those_of_training_are(tmp_path):
    labels = [True, False, 1.0, 2.5, " cafe\u0301 ", "\ufeffpos"]
    for value, label in zip(labels, ["true", "false", "1", "2.5", "caf\u00e9", "pos"], strict=True):
        path = write_parquet(tmp_path / "labels.parquet", ["a text"], [value])
        assert read_test_set(str(path), "text", "label").labels == [label]


def test_a_file_that_is_no_parquet_is_refused(request_, tmp_path):
    (tmp_path / "bad.parquet").write_text("text,label\n")
    with pytest.raises(BadInput, match="no readable Parquet"):
        evaluate(replace(request_, test_set=str(tmp_path / "bad.parquet")))
    with pytest.raises(BadInput, match="is no snapshot"):
        evaluate(replace(request_, test_set=str(tmp_path / "nothing")))
    with pytest.raises(BadInput, match="does not exist"):
        evaluate(replace(request_, test_set=str(tmp_path / "nothing.parquet")))


def test_a_model_without_a_trained_head_is_refused(request_, models, tmp_path):
    with pytest.raises(BadInput, match="no classification head"):
        evaluate(replace(request_, candidate=str(models["base"])))
    claims = shutil.copytree(models["base"], tmp_path / "claims")
    config = json.loads((claims / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (claims / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"its files lack classifier\.bias"):
        evaluate(replace(request_, candidate=str(claims)))


def test_a_damaged_model_is_refused(request_, models, tmp_path):
    damaged = shutil.copytree(models["candidate"], tmp_path / "damaged")
    weights = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BadInput, match="cannot be loaded"):
        evaluate(replace(request_, candidate=str(damaged)))


def test_a_diverged_model_is_reported_with_nulls_and_held(request_, models, tmp_path):
    from safetensors.torch import load_file, save_file

    diverged = shutil.copytree(models["candidate"], tmp_path / "diverged")
    weights = load_file(diverged / "model.safetensors")
    weights["classifier.bias"] = weights["classifier.bias"] * float("nan")
    save_file(weights, diverged / "model.safetensors", metadata={"format": "pt"})
    result = evaluate(replace(request_, candidate=str(diverged)))
    assert set(result.metrics.values()) == {None}
    assert result.release is None
    report = read(result.report)
    assert decide(report, read_evidence(report), Rules()).decision == "hold"


def test_progress_is_logged_while_scoring(request_, monkeypatch, caplog):
    monkeypatch.setattr("training.classifier.PROGRESS_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        evaluate(request_)
    assert any("progress: 20% | candidate" in message for message in caplog.messages)


# MLflow's own queries, on a SQLite file
third_party = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@third_party
def test_a_champion_alias_that_does_not_exist_is_bad_input(request_, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(BadInput, match="films@champion"):
        evaluate(replace(request_, champion="models:/films@champion"))


@third_party
def test_metrics_and_report_go_to_the_run_that_made_the_candidate(request_, models, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri, uri)
    run = client.create_run(client.create_experiment("films", artifact_location=(tmp_path / "artifacts").as_uri()))
    client.create_registered_model("films")
    version = client.create_model_version("films", "file:///unused", run.info.run_id)
    name = f"models:/films/{version.version}"
    find = evaluation.find_model
    monkeypatch.setattr(
        evaluation,
        "find_model",
        lambda reference, work, tracking: (
            replace(find(str(models["candidate"]), work), name=name)
            if reference == name
            else find(reference, work, tracking)
        ),
    )
    tracking = Tracking(uri=uri, experiment="films", model_name="films")
    result = evaluate(replace(request_, candidate=name, tracking=tracking))
    logged = client.get_run(run.info.run_id).data.metrics
    assert logged == pytest.approx({f"test_{metric}": value for metric, value in result.metrics.items()})
    [artifact] = (tmp_path / "artifacts").rglob("report.json")
    assert json.loads(artifact.read_text()) == read(result.report)
    assert read(result.report)["test_set"]["new_rows"] is None, "the champion was judged nobody knows where"

    more = write_parquet(tmp_path / "more.parquet", [*TEXTS, "a fine film", "an awful film"])
    later = evaluate(
        replace(request_, candidate=request_.champion, champion=name, test_set=str(more), tracking=tracking)
    )
    assert read(later.report)["test_set"]["new_rows"] == 2
    membership = pq.read_table(local_path(read(later.report)["membership"])).to_pydict()
    joined = {membership["text_sha256"][row] for row, new in enumerate(membership[NEW]) if new}
    assert joined == {text_hash("a fine film"), text_hash("an awful film")}


# slices and behaviour

LONG = {"long": {"text_length": [20, None]}, "odd": {"where": "label = 'neg' OR text LIKE '%very%'"}}
CAPITALS = {"name": "capitals", "kind": "invariance", "change": "upper", "pass_share": 0.5}


def test_the_report_has_the_slices_and_which_rows_are_in_them(request_):
    report = read(evaluate(replace(request_, slices=LONG)).report)
    assert [(one["name"], one["description"]) for one in report["slices"]] == [
        ("long", "texts of 20 and more characters"),
        ("odd", "where label = 'neg' OR text LIKE '%very%'"),
    ]
    membership = pq.read_table(local_path(report["membership"])).to_pydict()
    answers = pq.read_table(local_path(report["predictions"]["candidate"])).to_pydict()
    assert membership["text_sha256"] == answers["text_sha256"]
    assert membership["long"] == [len(text) >= 20 for text in TEXTS]
    assert [one["rows"] for one in report["slices"]] == [sum(membership["long"]), sum(membership["odd"])]


def test_the_report_has_what_the_release_does_in_behavioural_tests(request_):
    report = read(evaluate(replace(request_, behaviour=[CAPITALS])).report)
    [told] = report["behaviour"]["tests"]
    assert (told["name"], told["cases"], told["pass"]) == ("capitals", len(TEXTS), 0.5)
    assert told["failures"] == 0  # the tokenizer makes small letters of all


def test_other_slices_or_tests_are_another_report_and_ask_no_model_about_the_test_set_again(request_):
    first = evaluate(replace(request_, slices=LONG))
    assert evaluate(replace(request_, slices=LONG)).why.startswith("hit: ")
    for changed in ({"slices": {"long": LONG["long"]}}, {"slices": LONG, "behaviour": [CAPITALS]}, {}):
        other = evaluate(replace(request_, **changed))
        assert other.report != first.report
        assert other.why == evaluation.SCORED_BEFORE


def test_slices_and_tests_that_cannot_be_asked_are_refused_before_any_model_is(request_, monkeypatch):
    monkeypatch.setattr(evaluation, "Examination", None)
    with pytest.raises(BadInput, match=r"gate\.slices\.bad: .*no column 'txt'"):
        evaluate(replace(request_, slices={"bad": {"where": "txt = 'a'"}}))
    with pytest.raises(BadInput, match=r"behaviour test 'capitals': pass is 2"):
        evaluate(replace(request_, behaviour=[{**CAPITALS, "pass_share": 2}]))
