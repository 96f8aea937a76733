"""Which texts are nearly others: of which sets that is a function, what it costs, and what the spec makes of it."""

import json
import random
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.training.near_texts import EXAM, LEAK, TWINS, WORDS, in_split, sentence
from tests.training.source import ROWS, Source, rows_of, texts_of
from training import near, signatures
from training.contract import BadInput
from training.shingles import ALIKE, similarities
from training.text import split_of, text_hash

DROP = {"near_test": "drop", "near_duplicate": "drop"}
OFF = {"near_test": "ignore", "near_duplicate": "ignore"}


@pytest.fixture
def source(tmp_path):
    source = Source(tmp_path)
    draw = random.Random(7)
    source.put("first", [(sentence(draw), "ab"[i % 2]) for i in range(200)])
    source.ingest(policies=OFF)
    return source


def watch_comparisons(monkeypatch):
    """:return: a list that gets every pair of texts that is compared."""
    compared = []

    def watched(texts, others):
        compared.extend(zip(texts, others, strict=True))
        return similarities(texts, others)

    monkeypatch.setattr(near, "similarities", watched)
    return compared


# what the spec makes of it


def test_a_training_text_that_is_nearly_a_test_text_is_told_and_stays(source):
    source.put("second", [(EXAM, "a"), (LEAK, "a")])
    result = source.ingest()
    [told] = result.warnings
    assert "1 training or validation text is nearly a text of the test split" in told
    assert "second.jsonl, row 2, is like" in told
    assert "second.jsonl, row 1 (similarity 0.9" in told
    assert LEAK in texts_of(result)


def test_it_is_left_out_where_the_spec_says_so(source):
    source.put("second", [(EXAM, "a"), (LEAK, "a")])
    result = source.ingest(policies={"near_test": "drop"})
    assert LEAK not in texts_of(result)
    assert EXAM in texts_of(result)
    assert result.dropped == {"text is nearly one in the test split": 1}


def test_a_text_that_was_ever_in_the_test_split_counts_when_it_is_gone(source):
    source.put("second", [(EXAM, "a")])
    source.ingest(policies=DROP)
    source.remove("second")
    source.ingest(policies=DROP)
    source.put("third", [(LEAK, "a")])
    result = source.ingest(policies=DROP)
    assert LEAK not in texts_of(result)
    assert "second.jsonl, row 1" in result.warnings[0]


def test_a_test_text_that_comes_later_drops_the_training_text_that_was_there_first(source):
    source.put("second", [(LEAK, "a")])
    assert LEAK in texts_of(source.ingest(policies=DROP))
    source.put("third", [(EXAM, "b")])
    assert LEAK not in texts_of(source.ingest(policies=DROP))


@pytest.mark.parametrize("first", [0, 1])
def test_of_near_duplicates_the_one_of_lowest_identity_stays_whichever_came_first(source, first):
    for name in (first, 1 - first):
        source.put(f"twin{name}", [(TWINS[name], "a")])
        result = source.ingest(policies=DROP)
    assert texts_of(result) & set(TWINS) == {TWINS[0]}
    assert result.dropped == {"text is nearly another one": 1}


def test_a_near_duplicate_comes_back_when_the_other_one_leaves(source):
    source.put("one", [(TWINS[0], "a")])
    source.put("two", [(TWINS[1], "a")])
    source.ingest(policies=DROP)
    source.remove("one")
    result = source.ingest(policies=DROP)
    assert TWINS[1] in texts_of(result)
    assert result.dropped == {}


def test_texts_with_another_label_are_no_near_duplicates(source):
    source.put("twins", [(TWINS[0], "a"), (TWINS[1], "b")])
    assert set(TWINS) <= texts_of(source.ingest(policies=DROP))


def test_the_test_split_is_left_as_it_is(source):
    exams = [
        in_split("test", lambda i, end=end: f"where is the parcel {i} that I sent to my aunt{end}") for end in ".!"
    ]
    source.put("exams", [(text, "a") for text in exams])
    assert set(exams) <= texts_of(source.ingest(policies=DROP))


def test_another_policy_makes_another_snapshot_of_the_same_data(source):
    source.put("twins", [(text, "a") for text in TWINS])
    kept = source.ingest()
    dropped = source.ingest(policies=DROP)
    assert texts_of(kept) - texts_of(dropped) == {TWINS[1]}
    assert source.ingest(policies=DROP).hit
    assert texts_of(source.ingest(policies=OFF)) == texts_of(kept)


def test_new_rows_are_refused_for_what_they_bring_and_not_for_what_was_there(source):
    source.put("twins", [(text, "a") for text in TWINS])
    source.ingest()
    source.put("fine", [("something else altogether, nobody has said it", "a")])
    good = source.ingest(policies={"near_duplicate": "quarantine", "near_test": "fail"})
    assert good.quarantined is None
    again = in_split("train", lambda i: TWINS[0] + "?" * (i + 1))
    source.put("bad", [(again, "a")])
    refused = source.ingest(policies={"near_duplicate": "quarantine"})
    assert "bad.jsonl, row 1" in refused.quarantined
    assert refused.snapshot == good.snapshot
    with pytest.raises(BadInput, match=r"checks\.near_duplicate is fail"):
        source.ingest(policies={"near_duplicate": "fail"}, force=True)


def test_nothing_is_looked_for_where_the_spec_says_ignore(source):
    assert not (source.store / "signatures").exists()


# what is found


def alike_texts(count, seed):
    """:return: texts, about a third of which are others with one word replaced."""
    draw = random.Random(seed)
    texts = [sentence(draw) for _ in range(count)]
    for _ in range(count // 2):
        words = draw.choice(texts).split()
        words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    return list(dict.fromkeys(texts))


def by_brute_force(texts):
    """:return: those that a comparison of all with all would leave out."""
    splits = {text: split_of(text, 15, 10) for text in texts}
    dropped = set()
    for text in texts:
        if splits[text] == "test":
            continue
        others = [
            other
            for other in texts
            if splits[other] == "test" or (splits[other] == splits[text] and text_hash(other) < text_hash(text))
        ]
        if others and similarities([text] * len(others), others).max() >= ALIKE:
            dropped.add(text)
    return dropped


def test_what_is_found_is_what_comparing_all_with_all_finds(tmp_path):
    texts = alike_texts(300, seed=3)
    source = Source(tmp_path)
    source.put("all", [(text, "a") for text in texts] + [(f"{i}{i} other", "b") for i in range(40)])
    dropped = set(texts) - texts_of(source.ingest(policies=DROP))
    expected = by_brute_force(texts)
    assert len(expected) > 50
    assert dropped <= expected
    assert len(dropped) >= 0.98 * len(expected)


# what it costs


def test_an_append_compares_what_is_new_and_nothing_else(source, monkeypatch):
    source.put("alike", [(text, "a") for text in alike_texts(300, seed=5)])
    source.ingest()
    compared = watch_comparisons(monkeypatch)
    source.put("more", [(TWINS[0], "a"), (TWINS[1], "a")])
    [told] = source.ingest().warnings
    assert "1 training or validation text is nearly another" in told
    assert len(compared) < 20
    [found] = Path(source.watermark.removeprefix("file://")).glob("near-*.parquet")
    assert parquet.read_metadata(found).num_rows > 100  # those of the first run among them


def test_texts_of_one_template_are_not_all_compared_with_each_other(tmp_path, monkeypatch):
    compared = watch_comparisons(monkeypatch)
    source = Source(tmp_path)
    texts = [f"dear customer, your order with the number {i} has left our house" for i in range(3000)]
    source.put("template", [(text, "ab"[i % 2]) for i, text in enumerate(texts)])
    result = source.ingest(policies={"near_duplicate": "drop"})
    assert len(compared) < 40 * len(texts)  # there are 4.5 million pairs
    assert 0 < result.rows["train"] + result.rows["validation"] < 100
    compared.clear()
    source.put("one", [(f"{texts[0]} again", "a")])
    source.ingest(policies={"near_duplicate": "drop"})
    assert len(compared) < 1000


def test_signatures_are_made_once_for_each_batch(source, monkeypatch):
    made = []
    make = signatures.signatures

    def watched(runs, counts):
        made.append(len(counts))
        return make(runs, counts)

    monkeypatch.setattr(signatures, "signatures", watched)
    source.ingest(policies=DROP)  # of what was read before anybody asked
    source.put("second", [(TWINS[0], "a")])
    source.ingest(policies=DROP)
    source.remove("second")
    source.ingest(policies=DROP)
    assert made == [200, 1]


def test_what_a_killed_attempt_left_of_signatures_is_made_again(source):
    source.put("second", [(EXAM, "a"), (LEAK, "a")])
    source.ingest()
    [*_, one] = sorted((source.store / "signatures").iterdir())
    (one / "manifest.json").unlink()
    (one / "signatures.parquet").write_bytes(b"half")
    source.put("third", ROWS[:2])
    assert LEAK not in texts_of(source.ingest(policies=DROP))
    assert json.loads((one / "manifest.json").read_text()) == {}


def test_a_run_that_recomputes_mends_signatures_that_are_damaged(source):
    source.put("second", [(EXAM, "a"), (LEAK, "a")])
    source.ingest()
    for file in source.store.glob("signatures/*/signatures.parquet"):
        file.write_bytes(b"damaged")
    source.put("third", ROWS[:2])
    with pytest.raises(BadInput, match="Start a run that recomputes"):
        source.ingest(policies=DROP)
    assert LEAK not in texts_of(source.ingest(policies=DROP, force=True))
    source.put("fourth", ROWS[2:4])
    assert LEAK not in texts_of(source.ingest(policies=DROP))


def test_the_same_sets_give_the_same_decisions_whatever_came_before(tmp_path):
    draw = random.Random(11)
    source = Source(tmp_path)
    texts = alike_texts(250, seed=13)
    pieces = [texts[start::5] for start in range(5)]
    for round_ in range(8):
        piece = draw.randrange(5)
        source.put(f"piece{piece}", [(text, draw.choice("ab")) for text in draw.sample(pieces[piece], 50)])
        result = source.ingest(policies=DROP)
        assert round_ == 0 or result.dropped
    again = source.ingest(policies=DROP, force=True)
    assert rows_of(result) == rows_of(again)
    assert (result.digest, result.dropped) == (again.digest, again.dropped)
