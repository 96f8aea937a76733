"""How many tokens the new texts have: what is counted, what is said of it, and what is done about it."""

import json
import logging
import shutil
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.tiny import tiny_tokenizer
from training import token_lengths
from training.contract import BadInput, Checks, IngestRequest, Reading
from training.ingest import ingest

WORDS = ["[UNK]", "[CLS]", "[SEP]", "word"]
SPECIAL = 2  # tokens that the tokenizer adds to a text's words


@pytest.fixture
def base_model(tmp_path):
    """A model that counts words, and takes 16 tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(4)  # as a checkpoint may have it: the whole texts are counted all the same
    tokenizer.enable_padding(length=4)
    directory = tmp_path / "model"
    directory.mkdir()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    (directory / "config.json").write_text('{"max_position_embeddings": 16}')
    return directory


class Pipeline:
    def __init__(self, place, base_model):
        self.place, self.base_model, self.watermark = place, base_model, None
        (place / "data").mkdir()

    def put(self, name, *lengths):
        """:param lengths: in words, of a text each."""
        rows = [(" ".join(["word"] * (length - 1) + [f"{name}{i}"]), "pn"[i % 2]) for i, length in enumerate(lengths)]
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
        self.file(name).write_text("".join(lines))

    def file(self, name):
        return self.place / "data" / f"{name}.jsonl"

    def ingest(self, policy=None, **values):
        # what differs in a number alone is alike
        policies = {"near_test": "ignore", "near_duplicate": "ignore", **({"long_text": policy} if policy else {})}
        request = IngestRequest(
            pipeline="words",
            store=str(self.place / "store"),
            reading=Reading(source=str(self.place / "data"), text="text", label="label"),
            checks=Checks(policies=policies),
            watermark=self.watermark,
            **{"base_model": self.base_model and str(self.base_model), **values},
        )
        result = ingest(request)
        self.watermark = result.watermark
        return result


@pytest.fixture
def pipeline(tmp_path, base_model):
    pipeline = Pipeline(tmp_path, base_model)
    pipeline.put("first", *[3] * 200)
    return pipeline


def tokens_of(pipeline):
    """:return: what the newest data report says."""
    reports = (pipeline.place / "store").rglob("report.json")
    return json.loads(max(reports, key=lambda file: file.stat().st_mtime_ns).read_text())["lengths"]["tokens"]


def test_texts_that_training_would_cut_are_told_with_their_share(pipeline):
    pipeline.ingest()
    pipeline.put("second", *[5] * 60, *[14] * 36, 15, 20, 20, 100)
    [warning] = pipeline.ingest().warnings
    assert warning == (
        "Training would cut 4 per cent of the new texts (4 of a sample of 100): they have more than 16 tokens, "
        f"as {pipeline.base_model} counts them, the longest 102."
    )
    assert tokens_of(pipeline) == {
        "base_model": str(pipeline.base_model),
        "new_rows": 100,
        "sample_rows": 100,
        "limit": 16,
        "rows_cut": 4,
        "percent_cut": 4.0,
        "median": 7,
        "percentile_90": 16,
        "percentile_99": 22,
        "longest": 102,
        "histogram": [[6, 60], [8, 0], [12, 0], [16, 39], [24, 0], [32, 0], [48, 0], [64, 0], [96, 1]],
    }


def test_texts_that_fit_are_counted_and_nothing_is_told(pipeline):
    assert pipeline.ingest().warnings == []
    assert (tokens_of(pipeline)["rows_cut"], tokens_of(pipeline)["longest"]) == (0, 3 + SPECIAL)


def test_the_length_that_the_spec_trains_with_is_the_limit(pipeline):
    [warning] = pipeline.ingest(max_length=4).warnings
    assert "cut 100 per cent" in warning
    assert "more than 4 tokens" in warning


def test_new_texts_are_refused_only_when_more_of_them_than_the_spec_allows_are_too_long(pipeline):
    good = pipeline.ingest("quarantine")
    pipeline.put("second", *[5] * 90, *[20] * 10)
    fine = pipeline.ingest("quarantine")
    assert (fine.quarantined, fine.warnings) == (None, [])
    pipeline.put("third", *[6] * 88, *[21] * 12)
    refused = pipeline.ingest("quarantine")
    assert (refused.snapshot, "cut 12 per cent" in refused.quarantined) == (fine.snapshot, True)
    assert refused.snapshot != good.snapshot
    with pytest.raises(BadInput, match=r"cut 12 per cent .* checks\.long_text is fail"):
        pipeline.ingest("fail")


def test_nothing_is_counted_that_nobody_asked_for(pipeline, caplog):
    caplog.set_level(logging.INFO)
    assert pipeline.ingest("ignore", max_length=4).warnings == []
    pipeline.put("second", 50)
    assert pipeline.ingest(base_model=None).warnings == []
    assert "No base model is named" in caplog.text
    assert tokens_of(pipeline) is None


def test_the_sample_is_the_same_in_whatever_order_the_rows_came(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(token_lengths, "SAMPLE_ROWS", 50)
    pipeline.put("second", *range(1, 150))
    pipeline.ingest()
    (tmp_path / "turned round").mkdir()
    turned_round = Pipeline(tmp_path / "turned round", pipeline.base_model)
    lines = [line for name in ("first", "second") for line in pipeline.file(name).read_text().splitlines(keepends=True)]
    turned_round.file("all").write_text("".join(reversed(lines)))
    turned_round.ingest()
    assert tokens_of(turned_round) == tokens_of(pipeline)
    assert (tokens_of(pipeline)["sample_rows"], tokens_of(pipeline)["new_rows"]) == (50, 349)


def test_long_texts_make_a_smaller_sample(pipeline, monkeypatch):
    monkeypatch.setattr(token_lengths, "SAMPLE_CHARACTERS", 1_000)
    pipeline.ingest()
    assert 0 < tokens_of(pipeline)["sample_rows"] < 200
    monkeypatch.setattr(token_lengths, "TEXT_CHARACTERS", 50)
    pipeline.put("second", 5_000)
    pipeline.ingest()
    assert tokens_of(pipeline)["longest"] == 10 + SPECIAL


@pytest.mark.parametrize("breakage", ["absent", "damaged", "unreachable"])
def test_a_tokenizer_that_is_not_to_be_had_keeps_no_data_out(pipeline, caplog, monkeypatch, breakage):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # the port where nobody answers
    file = pipeline.base_model / "tokenizer.json"
    if breakage == "absent":
        shutil.rmtree(pipeline.base_model)
    elif breakage == "damaged":
        file.write_text("{half a tok")
    else:
        pipeline.base_model = "acme/words"
    result = pipeline.ingest("fail", max_length=4)
    assert result.rows["train"]
    assert "How many tokens the new texts have was not looked at" in caplog.text


@pytest.mark.parametrize("made_of", ["tokenizer.json", "vocab.txt"])
def test_tokens_are_counted_as_training_counts_them(tmp_path, made_of):
    from transformers import AutoTokenizer

    directory = tiny_tokenizer(tmp_path)
    texts = ["a good film", "", "The BOOK was awful, wasn't it?", "é ß ½ 漢字 zzz", "word " * 300]
    expected = [len(row) for row in AutoTokenizer.from_pretrained(directory)(texts, verbose=False)["input_ids"]]
    if made_of == "vocab.txt":
        (directory / "tokenizer.json").unlink()
    assert token_lengths._count(token_lengths._tokenizer(directory), texts) == expected


def test_counting_brings_neither_torch_nor_transformers(pipeline):
    code = f"""
import sys
from pathlib import Path
from training.token_lengths import _count, _tokenizer
assert _count(_tokenizer(Path({str(pipeline.base_model)!r})), ["word word"]) == [4]
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
