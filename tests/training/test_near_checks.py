import logging
import random

import pytest

from tests.training.near_texts import EXAM, LEAK, TWINS, sentence
from tests.training.source import Source
from training import near_checks
from training.contract import Checks, IngestRequest
from training.intake import read
from training.store import Store


@pytest.fixture
def found(tmp_path):
    source = Source(tmp_path)
    draw = random.Random(5)
    longest = [TWINS[0] + " and so on" * (40 + i) for i in range(9)]
    texts = [*(sentence(draw) for _ in range(200)), EXAM, LEAK, *longest]
    template = [(f"a film that I have seen, number {i}", "a") for i in range(100)]
    source.put("rows", [*((text, "ab"[i % 2]) for i, text in enumerate(texts)), *template])

    def findings(**policies):
        request = IngestRequest(
            pipeline="films", store=str(source.store), reading=source.reading, checks=Checks(policies=policies)
        )
        with Store(request.store).scratch("test-") as scratch:
            return {one.check: one for one in read(request, scratch).findings}

    return findings


def test_a_finding_shows_the_nearest_texts_with_where_they_are(found):
    one = found()["near_test"]
    shown = next(example for example in one.examples if example["text"] == LEAK)
    assert (shown["row"], shown["near_row"], shown["near_text"]) == (202, 201, EXAM)
    assert shown["file"] == shown["near_file"]
    assert shown["file"].endswith("rows.jsonl")
    assert 0.9 < shown["similarity"] < 1


def test_the_nearest_come_first_and_texts_are_whole(found):
    examples = found()["near_duplicate"].examples
    assert [one["similarity"] for one in examples] == sorted((one["similarity"] for one in examples), reverse=True)
    assert len(examples) == 20
    assert max(len(one["text"]) for one in examples) > 300


def test_what_is_left_out_is_shown_as_well_and_what_is_ignored_is_not(found):
    findings = found(near_test="drop", near_duplicate="ignore")
    assert list(findings) == ["near_test"]
    assert "left out" in findings["near_test"].sentence
    assert LEAK in [one["text"] for one in findings["near_test"].examples]


def test_what_an_earlier_run_told_of_is_not_told_again_and_what_new_rows_bring_is(tmp_path):
    source = Source(tmp_path)
    draw = random.Random(5)
    few = [(sentence(draw), "ab"[i % 2]) for i in range(200)]
    source.put("first", [*few, (EXAM, "a"), (LEAK, "a"), *((text, "a") for text in TWINS)])
    assert len(source.ingest().warnings) == 2
    source.put("second", [(sentence(draw), "a"), (sentence(draw), "b")])
    assert source.ingest().warnings == []
    source.put("third", [(LEAK + " indeed", "a")])
    [again] = [one for one in source.ingest().warnings if "test split" in one]
    assert again.startswith("1 training or validation text is nearly a text of the test split")
    assert "third.jsonl" in again


def test_among_many_rows_alike_texts_are_looked_for_only_when_the_spec_says_so(found, monkeypatch, caplog):
    monkeypatch.setattr(near_checks, "UNASKED_ROWS", 100)
    with caplog.at_level(logging.INFO):
        assert not found()
    assert "not looking for texts that are alike" in caplog.text
    assert list(found(near_test="report")) == ["near_test", "near_duplicate"]
