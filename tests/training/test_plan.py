import json
from dataclasses import replace

import pytest

from tests.tiny import tiny_checkpoint
from training.contract import (
    BadInput,
    EvaluateRequest,
    IngestRequest,
    PackageRequest,
    PlanRequest,
    Reading,
    TrainRequest,
)
from training.evaluate import evaluate_parts
from training.ingest import ingest
from training.keys import Records, key_of
from training.model import model_digest
from training.package import package_parts
from training.plan import NOT_YET, plan
from training.store import Store
from training.train import train_parts


@pytest.fixture
def request_(tmp_path):
    rows = "".join(json.dumps({"text": f"film {i}", "label": ["neg", "pos"][i % 2]}) + "\n" for i in range(100))
    (tmp_path / "rows.jsonl").write_text(rows)
    store = str(tmp_path / "store")
    return PlanRequest(
        ingest=IngestRequest(
            pipeline="films",
            store=store,
            reading=Reading(source=str(tmp_path / "rows.jsonl"), text="text", label="label"),
        ),
        train={
            "pipeline": "films",
            "store": store,
            "work": str(tmp_path / "work"),
            "base_model": str(tiny_checkpoint(tmp_path / "base")),
            "arguments": {"num_train_epochs": 3},
        },
    )


def said(request):
    return {step["step"]: (step["state"], step["why"]) for step in plan(request).steps}


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def trained(request_, tmp_path):
    """The records that ingest and train leave, around a checkpoint with random weights."""
    store = Store(request_.ingest.store)
    snapshot = ingest(request_.ingest).snapshot
    checkpoint = tiny_checkpoint(tmp_path / "model", ["neg", "pos"])
    uri = store.put_directory(checkpoint, f"models/{model_digest(checkpoint)}", {"digest": model_digest(checkpoint)})
    parts = train_parts(TrainRequest.from_dict({**request_.train, "snapshot": snapshot}))
    Records(store, "train").write(key_of(parts), parts, {"model": uri}, "films")
    return snapshot, uri


@pytest.fixture
def evaluated(request_, trained):
    """What an evaluation under the model's registered name, against no champion, records."""
    store, (snapshot, model) = Store(request_.ingest.store), trained
    work = request_.train["work"]
    parts = evaluate_parts(
        EvaluateRequest(pipeline="films", store=store.root, work=work, candidate=model, test_set=snapshot)
    )
    parts["candidate"]["name"] = "models:/films/1"
    golden = store.write_json("evaluations/1/golden.json", {"texts": ["a"], "labels": ["neg"], "scores": [[0.5, 0.5]]})
    Records(store, "evaluate").write(key_of(parts), parts, {"golden": golden}, "films")
    return golden


def test_a_plan_of_what_never_ran_writes_nothing(request_, tmp_path):
    before = tree(tmp_path)
    assert said(request_) == {
        "ingest": ("miss", "miss: first run"),
        "train": ("miss", "miss: first run"),
        "evaluate": ("unknown", NOT_YET),
        "package": ("unknown", NOT_YET),
    }
    assert {path: at for path, at in tree(tmp_path).items() if path in before} == before
    assert not list((tmp_path / "store").rglob("*"))


def test_what_is_made_is_a_hit_and_what_follows_is_compared(request_, trained):
    steps = said(request_)
    assert steps["ingest"][1].startswith("hit: source unchanged since 20")
    assert steps["train"][0] == "hit"
    assert steps["evaluate"] == ("miss", "miss: first run")
    assert steps["package"] == ("unknown", NOT_YET)


def test_a_changed_setting_is_named_and_leaves_the_rest_unknown(request_, trained):
    steps = said(replace(request_, train={**request_.train, "arguments": {"num_train_epochs": 4}}))
    assert steps["train"] == ("miss", "miss: arguments.num_train_epochs 3 -> 4")
    assert steps["evaluate"] == ("unknown", NOT_YET)


def test_new_rows_are_a_miss_all_the_way(request_, trained, tmp_path):
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "one more film", "label": "pos"}\n')
    steps = said(request_)
    assert steps["ingest"][1].startswith("miss: 1 new object; 1 row added since snapshot ")
    assert steps["train"][1].startswith("miss: snapshot ")
    assert steps["evaluate"][0] == "unknown"


def test_a_forced_step_is_a_miss(request_, trained):
    steps = said(
        replace(request_, ingest=replace(request_.ingest, force=True), train={**request_.train, "force": True})
    )
    assert steps["ingest"] == steps["train"] == ("miss", "forced")


def test_an_evaluation_is_found_under_the_name_that_the_registry_gave_the_model(request_, evaluated):
    steps = said(request_)
    assert steps["evaluate"][0] == "hit"
    assert steps["package"] == ("miss", "miss: not packaged yet; runs if the gate promotes")


def test_what_a_candidate_was_compared_with_is_assumed_to_be_the_same_and_named(request_, trained):
    store, (snapshot, model) = Store(request_.ingest.store), trained
    request = EvaluateRequest(
        pipeline="films",
        store=store.root,
        work=request_.train["work"],
        candidate=model,
        test_set=snapshot,
        baseline="majority",
    )
    parts = evaluate_parts(request)
    for role, version in (("champion", "models:/films/3"), ("best", "models:/films/2")):
        parts[role] = {"name": version, "digest": version}
    golden = store.write_json("evaluations/1/golden.json", {"texts": ["a"], "labels": ["neg"], "scores": [[0.5, 0.5]]})
    Records(store, "evaluate").write(key_of(parts), parts, {"golden": golden}, "films")
    state, why = said(replace(request_, evaluate={"baseline": "majority"}))["evaluate"]
    assert state == "hit"
    assert said(request_)["evaluate"] == ("miss", "miss: baseline majority -> unset")
    assert why.endswith("; if the champion is still models:/films/3 and the best version is still models:/films/2")


def test_an_evaluation_with_other_slices_is_not_the_one_that_was_made(request_, evaluated):
    others = replace(request_, evaluate={"slices": {"short": {"text_length": [None, 20]}}})
    assert said(others)["evaluate"][0] == "miss"
    assert "slices" in said(others)["evaluate"][1]


def test_everything_made_is_a_hit_all_the_way(request_, trained, evaluated):
    store = Store(request_.ingest.store)
    work = request_.train["work"]
    parts = package_parts(
        PackageRequest(pipeline="films", store=store.root, work=work, model=trained[1], golden=evaluated)
    )
    store.write_json("releases/1/release.json", {})
    Records(store, "package").write(key_of(parts), parts, {"digest": "1"}, "films")
    assert [state for state, _why in said(request_).values()] == ["hit"] * 4


def test_rows_that_a_run_would_drop_are_counted_by_reason(request_, tmp_path):
    assert plan(request_).dropped == {}
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": "no label"}\n{"text": "", "label": "pos"}\n')
    assert plan(request_).dropped == {"missing label": 1, "empty text": 1}


def test_data_that_a_run_would_refuse_is_refused(request_, tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(BadInput, match="empty file"):
        plan(request_)
