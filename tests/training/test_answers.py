from __future__ import annotations

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.answers import Answers, read_answers, write_answers
from training.testset import TestSet

LABELS = ("neg", "neu", "pos")
TEST_SET = TestSet("", "", ["good", "bad", "Fine  film"], ["pos", "neg", "pos"])
numbers = st.floats(0, 1) | st.just(np.nan)


@settings(max_examples=50, deadline=None)
@given(scores=arrays(np.float64, (3, 3), elements=numbers), latency=st.none() | arrays(np.float64, 3, elements=numbers))
def test_answers_come_back_as_they_were_kept(tmp_path_factory, scores, latency):
    path = tmp_path_factory.mktemp("answers") / "predictions.parquet"
    write_answers(path, Answers(LABELS, scores, latency), TEST_SET)
    kept = read_answers(io.BytesIO(path.read_bytes()))
    assert kept.labels == LABELS
    np.testing.assert_array_equal(kept.scores, scores)
    np.testing.assert_array_equal(kept.latency_ms, latency)


def test_a_latency_that_was_not_measured_is_null(tmp_path):
    from pyarrow import parquet

    scores = np.full((3, 3), 1 / 3)
    write_answers(tmp_path / "1.parquet", Answers(LABELS, scores, np.array([1.5, np.nan, 2.0])), TEST_SET)
    table = parquet.read_table(tmp_path / "1.parquet")
    assert table["latency_ms"].to_pylist() == [1.5, None, 2.0]
    assert table["prediction"].to_pylist() == ["neg"] * 3
    write_answers(tmp_path / "2.parquet", Answers(LABELS, scores), TEST_SET)
    assert "latency_ms" not in parquet.read_table(tmp_path / "2.parquet").column_names


def test_labels_that_a_model_lacks_are_named():
    answers = Answers(("neg", "spam"), np.full((3, 2), 0.5))
    assert answers.unknown_labels(TEST_SET) == ["pos"]
