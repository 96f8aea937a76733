import json
import subprocess
import sys

import pytest

from training.contract import BadInput, IngestRequest, PlanRequest, Reading, Tracking, TrainRequest, TrainResult


def test_a_message_survives_the_way_through_json():
    request = TrainRequest(
        pipeline="films",
        store="file:///store",
        work="/work",
        snapshot="file:///store/snapshots/1",
        base_model="a/b",
        arguments={"num_train_epochs": 4},
        tracking=Tracking(uri="http://mlflow", experiment="e", model_name="films", tags={"a": "b"}),
    )
    assert TrainRequest.from_dict(json.loads(request.to_json())) == request


def test_a_message_within_a_message_is_read_as_its_own_type():
    values = {
        "ingest": {"pipeline": "p", "store": "s", "reading": {"source": "x", "text": "t", "label": "l"}},
        "train": {"a": 1},
    }
    request = PlanRequest.from_dict(values)
    assert isinstance(request.ingest, IngestRequest)
    assert request.train == {"a": 1}


def test_unknown_and_missing_keys_are_refused_by_name():
    with pytest.raises(BadInput) as refused:
        Reading.from_dict({"source": "x", "text": "t", "labels": "l"})
    assert "unknown keys ['labels'], missing keys ['label']" in str(refused.value)


def test_a_wrong_key_within_a_message_names_the_inner_type():
    with pytest.raises(BadInput, match="Tracking: unknown keys"):
        TrainRequest.from_dict(
            {
                **dict.fromkeys(("pipeline", "store", "work", "snapshot", "base_model"), "x"),
                "tracking": {"uri": "u", "experiment": "e", "model_name": "m", "model": "m"},
            }
        )


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("class_weights", "Balanced", "'balanced' or None"),
        ("max_length", "64", "int or None"),
        ("max_length", True, "int or None"),
        ("early_stopping_epochs", 2.5, "int or None"),
        ("force", "yes", "bool"),
        ("snapshot", None, "str"),
        ("arguments", ["seed"], r"dict\[str, typing\.Any\]"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_field(field, value, expected):
    values = dict.fromkeys(("pipeline", "store", "work", "snapshot", "base_model"), "x")
    with pytest.raises(BadInput, match=f"TrainRequest: {field} is .*; expected {expected}"):
        TrainRequest.from_dict({**values, field: value})


def test_an_unknown_format_is_bad_input_and_no_accident():
    expected = "'csv' or 'tsv' or 'jsonl' or 'parquet' or 'arrow' or None"
    with pytest.raises(BadInput, match=f"format is 'xlsx'; expected {expected}"):
        Reading.from_dict({"source": "x", "text": "t", "label": "l", "format": "xlsx"})


def test_a_whole_number_is_taken_where_a_fraction_may_stand():
    values = {"key": "k", "hit": False, "why": "", "model": "m", "digest": "d", "metrics": {"f1": 1}, "epochs": 3}
    assert TrainResult.from_dict({**values, "seconds": 7}).epochs == 3


def test_a_number_that_is_none_never_gets_into_json():
    with pytest.raises(ValueError):
        PlanRequest(
            ingest=IngestRequest(pipeline="p", store="s", reading=Reading(source="x", text="t", label="l")),
            train={"a": float("nan")},
        ).to_json()


def test_what_airflow_imports_needs_the_standard_library_alone():
    code = "import sys, training.contract, training.keys, training.store, training.stage; "
    code += "print([m for m in ('fsspec', 'numpy', 'pyarrow', 'torch', 'datasets', 'mlflow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
