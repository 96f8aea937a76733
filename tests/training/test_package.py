from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.host.releases import ReleaseCache
from serving.model import Model, apply_function
from serving.release import read_release
from tests.tiny import tiny_checkpoint, tiny_tokenizer
from training.classifier import load_classifier
from training.contract import BadInput, PackageRequest
from training.package import convert, package, package_parts

LABELS = ["neg", "neu", "pos"]
TEXTS = ["good", "the film was not very good", "a " * 200, "i lost my card and the money on it"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "bert", LABELS, seed=1)


@pytest.fixture
def request_(checkpoint, tmp_path):
    return PackageRequest(
        pipeline="films", store=str(tmp_path / "store"), work=str(tmp_path / "work"), model=str(checkpoint)
    )


def golden_file(checkpoint, path, texts=TEXTS):
    classifier = load_classifier(checkpoint, "model")
    scores = classifier.score(texts, 8)
    labels = [classifier.labels[i] for i in scores.argmax(axis=1)]
    path.write_text(json.dumps({"texts": texts, "labels": labels, "scores": scores.tolist()}))
    return path.as_uri()


def directory(result):
    return Path(result.release.removeprefix("file://"))


def test_a_release_is_what_the_server_loads_and_answers_as_the_checkpoint(request_, checkpoint, tmp_path):
    golden = golden_file(checkpoint, tmp_path / "golden.json")
    result = package(replace(request_, golden=golden))
    release = read_release(directory(result))
    assert (release.digest, release.model_digest) == (result.digest, result.model_digest)
    assert release.labels == LABELS
    assert release.max_length == 64
    assert release.golden().texts == TEXTS
    model = Model(release, "f32")
    answers = apply_function("softmax", model.logits(model.tokenize(TEXTS)))
    assert np.abs(answers - np.array(release.golden().scores)).max() < 1e-5


def test_the_checkpoint_in_a_release_loads_with_plain_transformers(request_):
    from transformers import pipeline

    release = directory(package(request_))
    assert not any(path.is_symlink() for path in release.rglob("*"))
    classify = pipeline("text-classification", model=str(release / "model"), device="cpu")
    assert classify("good")[0]["label"] in LABELS


def test_a_second_package_is_a_hit_with_the_same_digest(request_):
    first, again = package(request_), package(request_)
    assert (first.hit, first.why) == (False, "miss: first run")
    assert again.hit
    assert again.digest == first.digest


def test_a_hit_is_what_the_next_miss_is_explained_against(request_, checkpoint, tmp_path):
    package(request_)
    package(replace(request_, golden=golden_file(checkpoint, tmp_path / "golden.json")))
    assert package(request_).hit
    again = package(replace(request_, golden=golden_file(checkpoint, tmp_path / "golden.json", TEXTS[:2])))
    assert again.why.startswith("miss: golden unset -> ")


def test_a_miss_is_not_explained_by_what_another_pipeline_packaged(request_, checkpoint, tmp_path):
    package(replace(request_, golden=golden_file(checkpoint, tmp_path / "golden.json")))
    assert package(replace(request_, pipeline="by_hand")).why == "miss: first run"


def test_a_release_in_a_store_of_any_name_is_found_by_the_host(request_, checkpoint, tmp_path):
    store = tmp_path / "store #1 of 50%"
    golden = golden_file(checkpoint, tmp_path / "golden #1.json")
    result = package(replace(request_, store=str(store), golden=golden))
    assert ReleaseCache(tmp_path / "host").fetch(result.release, result.digest).directory.is_relative_to(store)


def test_made_again_the_release_is_the_same(request_, tmp_path):
    first = package(request_)
    shutil.rmtree(directory(first))
    again = package(request_)
    assert not again.hit
    assert again.digest == first.digest
    elsewhere = package(replace(request_, store=str(tmp_path / "other"), force=True))
    assert elsewhere.digest == first.digest


@pytest.mark.parametrize("force", [False, True])
def test_packaged_again_a_damaged_release_is_mended(request_, force):
    first = package(request_)
    weights = directory(first) / "openvino" / "model.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = package(replace(request_, force=force))
    assert (again.hit, again.digest) == (False, first.digest)
    assert weights.read_bytes() == whole


def test_other_golden_examples_are_another_key(request_, checkpoint, tmp_path):
    golden = golden_file(checkpoint, tmp_path / "golden.json")
    assert package_parts(request_) != package_parts(replace(request_, golden=golden))
    assert not (tmp_path / "store").exists()


def test_golden_examples_of_another_model_are_refused(request_, checkpoint, tmp_path):
    other = tiny_checkpoint(tmp_path / "other", LABELS, seed=2)
    golden = golden_file(other, tmp_path / "golden.json")
    with pytest.raises(BadInput, match="not the model that the golden examples were recorded from"):
        package(replace(request_, golden=golden))
    assert not (tmp_path / "store" / "releases").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "no golden examples"),
        ("{}", "no golden examples"),
        ('{"texts": [], "labels": [], "scores": []}', "there are none"),
        ('{"texts": ["a"], "labels": [], "scores": []}', "not equally many"),
        ('{"texts": ["a"], "labels": ["neg"], "scores": [[1.0]]}', "1 labels are recorded, the model has 3"),
        ('{"texts": ["a"], "labels": ["neg"], "scores": [[null, 0.5, 0.5]]}', "differs by nan"),
    ],
)
def test_golden_examples_that_say_nothing_are_refused(request_, tmp_path, content, message):
    (tmp_path / "golden.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        package(replace(request_, golden=str(tmp_path / "golden.json")))


def test_a_conversion_that_changes_the_answers_is_refused(request_, monkeypatch, tmp_path):
    def biased(classifier, path):
        classifier.model.classifier.bias.data[0] += 1.0
        convert(classifier, path)

    monkeypatch.setattr("training.package.convert", biased)
    with pytest.raises(BadInput, match="OpenVINO does not answer as PyTorch does"):
        package(request_)
    assert not (tmp_path / "store" / "releases").exists()


def test_a_model_without_a_trained_head_is_refused(request_, tmp_path):
    base = tiny_checkpoint(tmp_path / "base")
    with pytest.raises(BadInput, match="no classification head"):
        package(replace(request_, model=str(base)))


def tiny_config(architecture):
    import transformers

    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    usual = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    own = {
        "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
        "Roberta": {**usual, "max_position_embeddings": 66, "pad_token_id": 0},
        "Electra": {**usual, "embedding_size": 32},
        "DebertaV2": {
            **usual,
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
        "ModernBert": {
            **usual,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    }[architecture]
    return getattr(transformers, f"{architecture}Config")(**names, **own, vocab_size=120)


@pytest.mark.parametrize("architecture", ["DistilBert", "Roberta", "Electra", "DebertaV2", "ModernBert"])
def test_other_architectures_are_packaged_too(request_, tmp_path, architecture):
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    source = tiny_tokenizer(tmp_path / "model")
    AutoModelForSequenceClassification.from_config(tiny_config(architecture)).save_pretrained(source)
    golden = golden_file(source, tmp_path / "golden.json")
    release = read_release(directory(package(replace(request_, model=str(source), golden=golden))))
    assert release.golden().texts == TEXTS
    assert release.max_length == 64
