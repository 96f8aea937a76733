from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.tiny import tiny_checkpoint
from training import serving_figures
from training.classifier import load_classifier
from training.contract import PackageRequest
from training.package import package
from training.serving_figures import ask_release, memory_of
from training.store import local_path

LABELS = ["neg", "neu", "pos"]
TEXTS = [
    f"the {noun} was {'very ' * n}{word}" for n in range(60) for noun in ("film", "book") for word in ("good", "bad")
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "bert", LABELS, seed=1)


@pytest.fixture(scope="module")
def release(checkpoint, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    request = PackageRequest(
        pipeline="films", store=str(root / "store"), work=str(root / "work"), model=str(checkpoint)
    )
    return local_path(package(request).release)


def test_a_release_answers_as_its_checkpoint_in_the_order_of_the_texts(release, checkpoint, caplog):
    with caplog.at_level("INFO"):
        answers, figures = ask_release(release, TEXTS, "release of candidate bert")
    assert answers.labels == tuple(LABELS)
    assert np.abs(answers.scores - load_classifier(checkpoint, "bert").score(TEXTS, 16)).max() < 0.02
    assert np.abs(answers.scores.sum(axis=1) - 1).max() < 1e-12
    assert figures["precision"] in ("bf16", "f32")
    assert figures["throughput"] > 0
    assert any(f"release of candidate bert: {len(TEXTS)} rows scored" in message for message in caplog.messages)


def test_the_latency_is_of_some_texts_evenly_taken(release, monkeypatch):
    monkeypatch.setattr(serving_figures, "LATENCY_ROWS", 40)
    answers, figures = ask_release(release, TEXTS, "release")
    measured = np.flatnonzero(~np.isnan(answers.latency_ms))
    assert measured.tolist() == list(range(0, len(TEXTS), 6))
    assert figures["latency_ms"]["p50"] == pytest.approx(np.median(answers.latency_ms[measured]))
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"] <= figures["latency_ms"]["p99"]


def test_the_throughput_is_that_of_a_server_that_has_seen_such_texts(release, monkeypatch):
    asked = []
    answer = serving_figures.answer_together

    def watched(model, texts, name):
        asked.append(list(texts))
        return answer(model, texts, name)

    monkeypatch.setattr(serving_figures, "answer_together", watched)
    monkeypatch.setattr(serving_figures, "THROUGHPUT_ROWS", 100)
    _answers, figures = ask_release(release, TEXTS, "release")
    assert asked == [TEXTS, TEXTS[:100]], "first for the answers, then for the time that they take"
    assert figures["throughput"] > 0


def test_memory_is_that_of_a_process_of_its_own(release, monkeypatch):
    megabyte = 1 << 20
    assert megabyte < memory_of(release) < 500 * megabyte
    monkeypatch.setattr(serving_figures, "MEMORY_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="was not loaded within"):
        memory_of(release)


def test_a_release_that_a_process_of_its_own_does_not_load_is_no_evidence(release, tmp_path):
    damaged = shutil.copytree(release, tmp_path / "damaged")
    (damaged / "openvino" / "model.bin").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"does not load in a process of its own \(exit status 2\).* has changed"):
        memory_of(damaged)
