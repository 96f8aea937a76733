"""The card of a version is one that the Hub's own client reads, and says what is known and what is not."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from huggingface_hub import ModelCard

from tests.reports import CANDIDATE, answers, binary, report, two
from tests.training.verdicts import judged
from training.card import Facts, facts_of, model_card
from training.store import Store

TRAINED = {
    "key": "k" * 64,
    "training": {
        "base_model": "acme/base@v1 (0123456789ab)",
        "license": "apache-2.0",
        "rows": {"train": 800, "validation": 100},
        "parameters": {"base_model": "acme/base@v1", "learning_rate": 0.0002, "trainer": None, "truncated_rows": 7},
    },
}
IMPORTED = {"key": "k" * 64, "imported": {"from": "acme/live@1a2b", "license": "mit", "renamed": {}}}
SNAPSHOT = {
    "digest": "5" * 64,
    "source": {"uri": "s3://acme/films/*.jsonl"},
    "layout": {"window": {"start": "2026-08-01", "old": []}},
    "rows": {"train": 800, "validation": 100, "test": 1000},
    "label_rows": {
        "train": {"neg": 500, "pos": 300},
        "validation": {"neg": 50, "pos": 50},
        "test": {"neg": 500, "pos": 500},
    },
}


def facts(**changes):
    return Facts(**{"pipeline": "films", "model": TRAINED, "snapshot": SNAPSHOT, "max_length": 128, **changes})


def card_of(evidence, known=None, kept=None, **rules):
    return model_card(*judged(evidence, kept, **rules), known or facts())


def section(card, title):
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)[1].strip()


def test_the_hubs_client_reads_the_metadata_and_the_results():
    evidence = binary(910, 884, labels=["neg", "pos"])
    data = ModelCard(card_of(evidence)).data
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", "acme/base", "transformers")
    assert (data.pipeline_tag, data.tags, data.model_name) == (
        "text-classification",
        ["ratchet"],
        "sentiment version 4",
    )
    reached = {one.metric_name: one for one in data.eval_results}
    assert reached["accuracy"].metric_value == 0.91
    assert (reached["f1_macro"].metric_type, reached["f1_macro"].metric_args) == ("f1", {"average": "macro"})
    for one in reached.values():
        assert (one.task_type, one.dataset_type, one.dataset_split) == ("text-classification", "films", "test")
        assert one.dataset_revision == evidence["test_set"]["digest"]


def test_what_it_was_made_of_and_how_it_did_is_told():
    card = card_of(binary(910, 884, labels=["neg", "pos"]), metric="accuracy")
    assert "# sentiment version 4\n" in card
    data = section(card, "Data")
    assert "| source | `s3://acme/films/*.jsonl` |" in data
    assert "| training rows from | `2026-08-01` |" in data
    assert "| `neg` | 500 | 50 | 500 |" in data
    assert "| all | 800 | 100 | 1,000 |" in data
    training = section(card, "Training")
    assert "| base model | `acme/base@v1 (0123456789ab)` |" in training
    assert "| `learning_rate` | `0.0002` |" in training
    assert "trainer" not in training
    evaluation = section(card, "Evaluation")
    assert "On the 1,000 rows of the test split" in evaluation
    assert "The verdict: **promote**." in evaluation
    assert "| metric | this version | sentiment version 3, champion then | better by |" in evaluation
    assert re.search(r"\| `accuracy` \| 0\.9100 \| 0\.8840 \| \+0\.0260 \(\+0\.\d+ to \+0\.\d+\) \|", evaluation)
    assert re.search(r"\| `neg` \| 500 \| 0\.\d+ \| 0\.\d+ \| 0\.\d+ \|", evaluation)


def test_without_a_champion_the_scores_have_intervals_of_their_own():
    evaluation = section(card_of(binary(910)), "Evaluation")
    assert "| metric | this version | between |" in evaluation
    assert re.search(r"\| `accuracy` \| 0\.9100 \| 0\.8\d+ to 0\.9\d+ \|", evaluation)


def test_slices_and_behavioural_tests_are_told_and_small_ones_are_a_limit():
    evidence = binary(910)
    kept = answers(evidence, slices={"short": np.arange(1000) < 10})
    evidence["slices"] = [{"name": "short", "rows": 10, "description": "texts of less than 20 characters"}]
    test = {"name": "a typo", "kind": "invariance", "description": "two letters are swapped", "cases": 20}
    outcome = {"failures": 1, "rate": 0.95, "pass": 0.9, "passed": True}
    failure = {"text": "a text of the data", "text_sha256": "0" * 64, "answer": "neg"}
    evidence["behaviour"] = {"passed": True, "tests": [{**test, **outcome, "examples": [failure]}]}
    card = card_of(evidence, kept=kept)
    assert "| `short` | texts of less than 20 characters | 10 | 1.0000 |" in section(card, "Slices")
    assert "| `a typo` | two letters are swapped | 20 | 1 | passed |" in section(card, "Behaviour")
    assert "- Fewer than 50 test rows are in `short`: too few to say much." in section(card, "Limits")
    assert "a text of the data" not in card
    bare = card_of(binary(910))
    assert section(bare, "Slices") == "No part of the test split was looked at by itself."
    assert section(bare, "Behaviour") == "There is no behavioural test."


def test_the_limits_are_said():
    evidence = report([[900, 40, 0], [2, 3, 0], [0, 0, 0]], labels=["neg", "pos", "rare"])
    limits = section(card_of(evidence), "Limits")
    assert "- Of a text it reads the first 128 tokens; 7 of its training texts were longer." in limits
    assert "- Nobody looked at which languages the texts are in" in limits
    assert "- No test row has `rare`, so nothing is known of these." in limits
    assert "- label 'pos' has 5 test rows: its scores say little." in limits


def test_licences_are_those_that_are_stated_and_none_is_guessed():
    stated = facts(base_license="gpl-3.0", data_license="cc-by-4.0")
    card = card_of(binary(910), stated)
    assert "| base model | gpl\\-3.0 |\n| data | cc\\-by\\-4.0 |" in section(card, "Licences")
    assert ModelCard(card).data.license == "gpl-3.0"
    card = card_of(binary(910), Facts(pipeline="films"))
    assert "| model | not stated |\n| data | not stated |" in section(card, "Licences")
    assert ModelCard(card).data.license is None


def test_of_a_model_that_was_trained_elsewhere_no_training_is_told():
    card = card_of(binary(910), facts(model=IMPORTED, base_license="of the base model, which this one is not made of"))
    assert section(card, "Training").startswith("Trained elsewhere: it is `acme/live@1a2b`")
    assert "It was tested on this data, and trained elsewhere." in section(card, "Data")
    assert "Test rows may have been among those that it was trained on" in section(card, "Limits")
    assert ModelCard(card).data.license == "mit"


def test_a_model_that_was_trained_on_other_data_than_it_is_tested_on_says_so():
    data = section(card_of(binary(910), facts(trained_on="9" * 64)), "Data")
    assert f"trained on snapshot `{'9' * 64}`" in data
    assert "trained on" not in section(card_of(binary(910), facts(trained_on=SNAPSHOT["digest"])), "Data")


def test_a_data_set_of_the_hub_is_named_as_one():
    source = {"uri": "hf://acme/films@main/plain?split=train"}
    assert ModelCard(card_of(binary(910), facts(snapshot={**SNAPSHOT, "source": source}))).data.datasets == [
        "acme/films"
    ]


def test_what_nobody_knows_is_said_to_be_unknown():
    card = card_of(binary(910), Facts(pipeline="films"))
    assert section(card, "Training") == "Nobody knows how it was trained."
    assert section(card, "Data").startswith("It was tested on rows that are no snapshot")
    assert ModelCard(card).data.base_model is None


@pytest.mark.parametrize("name", ["a|b\n# c", "---\nlicense: mit\n---", "`<img src=x>`", "x: [y", "' \" \\"])
def test_names_are_neither_markup_nor_metadata(name):
    evidence = report(two(910), two(884), labels=["pos", name])
    snapshot = {**SNAPSHOT, "label_rows": {split: {name: 1} for split in SNAPSHOT["label_rows"]}}
    card = card_of(evidence, facts(pipeline=name, snapshot=snapshot, data_license=name))
    assert ModelCard(card).data.model_name == "sentiment version 4"
    assert ModelCard(card).data.license == "apache-2.0"
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# sentiment version 4",
        *(f"## {title}" for title in ("Data", "Training", "Evaluation", "Slices", "Behaviour", "Limits", "Licences")),
    ]
    assert not re.search(r"(?<!\\)<img", re.sub(r"(`+) .*? \1", "", ModelCard(card).text))


def test_what_the_store_knows_is_found_and_what_is_gone_is_left_out(tmp_path):
    store = Store(str(tmp_path / "store"))
    evidence = binary(910)
    evidence["candidate"]["serving"]["release"] = store.uri(f"releases/{'e' * 64}")
    evidence["test_set"]["uri"] = store.uri(f"snapshots/{'5' * 64}")
    details = judged(evidence)[1]
    assert facts_of(store, "films", details) == Facts(pipeline="films")
    store.write_json(f"models/{CANDIDATE}/manifest.json", TRAINED)
    store.write_json(f"releases/{'e' * 64}/release.json", {"max_length": 64})
    layout = {"batches": [], "deletions": None, "window": None, "cutoffs": {}, "untrained": []}
    store.write_json(f"snapshots/{'5' * 64}/manifest.json", {**SNAPSHOT, "layout": layout})
    found = facts_of(store, "films", details, data_license="cc0-1.0")
    assert (found.max_length, found.license, found.data_license) == (64, "apache-2.0", "cc0-1.0")
    assert found.source == "s3://acme/films/*.jsonl"
    assert json.dumps(found.training)
