from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

import serving.model
from serving.model import Model, apply_function, load_model
from serving.release import BadRelease, Release, read_release
from tests.serving.conftest import ROOT
from tests.serving.releases import seal


def test_scores_are_those_recorded_at_evaluation(releases: list[Release]) -> None:
    golden = releases[0].golden()
    model = Model(releases[0], "f32")
    scores = apply_function("softmax", model.logits(model.tokenize(golden.texts)))
    np.testing.assert_allclose(scores, golden.scores, atol=1e-4)


def test_a_text_is_cut_where_training_cut_it(releases: list[Release], model: Model) -> None:
    encoding = model.tokenize(["film " * 500])[0]
    assert len(encoding["input_ids"]) == releases[0].max_length


def test_megabytes_of_text_cost_no_more_than_the_model_reads(model: Model) -> None:
    long = "a very good film " * 400
    start = time.monotonic()
    encoding = model.tokenize([long * 1000])[0]
    assert time.monotonic() - start < 0.5
    assert encoding == model.tokenize([long])[0]


def test_bf16_is_given_up_when_it_moves_a_score(
    copy_of_release: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16")
    monkeypatch.setattr(serving.model, "has_fast_bf16", lambda: True)
    assert load_model(read_release(copy_of_release)).precision == "bf16"
    golden = json.loads((copy_of_release / "golden.json").read_text())
    golden["scores"] = [[score + 0.03 for score in row] for row in golden["scores"]]
    (copy_of_release / "golden.json").write_text(json.dumps(golden))
    seal(copy_of_release)
    assert load_model(read_release(copy_of_release)).precision == "f32"
    assert "bf16 moves a golden score" in caplog.text


def test_labels_that_the_network_does_not_score_are_refused(copy_of_release: Path) -> None:
    seal(copy_of_release, labels=["bad", "good"])
    with pytest.raises(BadRelease, match=r"scores 3 labels, release\.json lists 2"):
        Model(read_release(copy_of_release), "f32").warm_up()


def test_a_network_that_cannot_be_read_is_refused(copy_of_release: Path) -> None:
    (copy_of_release / "openvino" / "model.xml").write_text("<net/>")
    seal(copy_of_release)
    with pytest.raises(BadRelease, match="cannot be loaded"):
        Model(read_release(copy_of_release), "f32")


def test_a_server_loads_neither_torch_nor_telemetry_nor_other_rooms(release_directories: list[Path]) -> None:
    script = (
        "import sys, serving.__main__ as main\n"
        "from serving.host import __main__\n"
        "from pathlib import Path\n"
        "main.load_model(main.read_release(Path(sys.argv[1])))\n"
        "absent = ('torch', 'openvino_telemetry', 'training', 'ratchet', 'airflow', 'mlflow')\n"
        "print([name for name in absent if sys.modules.get(name) is not None])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(release_directories[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
