"""What a page tells of a verdict is what the answers say, with the intervals that the rules were judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.reports import CANDIDATE, answers, binary, report, two
from tests.training.verdicts import judged, no_texts
from training import verdict_details
from training.metrics import calibration_error
from training.report import computed_metrics, read_report
from training.rules import Rules
from training.text import text_hash


def details_of(evidence, kept=None, **rules):
    return judged(evidence, kept, **rules)[1]


def metric(details, name):
    return next(one for one in details["metrics"] if one["name"] == name)


def test_the_difference_has_the_interval_of_its_rule():
    verdict, details = judged(binary(910, 884), metric="accuracy")
    rule = next(one for one in verdict["rules"] if one["name"] == "no_worse_by.accuracy")
    assert metric(details, "accuracy")["better_by"] == {name: rule[name] for name in ("value", "low", "high")}


def test_better_is_positive_also_where_lower_is_better():
    details = details_of(binary(910, 884, log_loss=(0.25, 0.3)), metric="log_loss")
    assert metric(details, "log_loss")["better_by"]["value"] == pytest.approx(0.05)
    evidence = binary(910, 884)
    evidence["champion"]["metrics"]["calibration_error"] = 0.02
    without_scores = replace(answers(evidence), sureness={})
    found = metric(details_of(evidence, without_scores), "calibration_error")
    assert found["better_by"] == {"value": pytest.approx(-0.03)}


def test_how_far_scores_can_be_believed_is_compared_with_an_interval():
    kept = answers(binary(910, 884), seed=1)
    one, other = (
        calibration_error(kept.sureness[role], kept.predicted[role] == kept.truth) for role in ("candidate", "champion")
    )
    found = metric(details_of(binary(910, 884), kept), "calibration_error")["better_by"]
    assert found["value"] == pytest.approx(other - one)
    assert found["low"] < found["value"] < found["high"]


def test_a_first_candidate_has_intervals_of_its_own():
    found = metric(details_of(binary(910)), "accuracy")
    assert "better_by" not in found
    low, high = found["interval"]["low"], found["interval"]["high"]
    assert low < 0.91 < high
    assert high - low == pytest.approx(2 * 1.645 * np.sqrt(0.91 * 0.09 / 1000), rel=0.1)


def test_rows_that_joined_are_told_apart_from_the_others():
    evidence = binary(900, 800)
    kept = answers(evidence, seed=1)
    new = np.arange(1000) % 4 == 0
    old, joined = details_of(evidence, replace(kept, new=new))["old_and_new"]
    assert (old["name"], old["rows"], joined["name"], joined["rows"]) == ("old", 750, "new", 250)
    for part, rows in ((old, ~new), (joined, new)):
        for role in ("candidate", "champion"):
            right = float((kept.predicted[role] == kept.truth)[rows].mean())
            assert part[role]["accuracy"] == pytest.approx(right)
        difference = part["candidate"]["accuracy"] - part["champion"]["accuracy"]
        assert part["better_by"]["value"] == pytest.approx(difference)
        assert part["better_by"]["low"] < difference < part["better_by"]["high"]


@pytest.mark.parametrize("new", [None, np.zeros(1000, bool), np.ones(1000, bool)])
def test_rows_of_one_kind_are_not_told_apart(new):
    evidence = binary(900, 800)
    assert details_of(evidence, replace(answers(evidence), new=new))["old_and_new"] == []


def test_labels_that_got_worse_come_first_and_small_ones_say_that_they_decide_nothing():
    before = [[90, 10, 0], [5, 95, 0], [1, 0, 9]]
    evidence = report([[99, 1, 0], [25, 75, 0], [2, 0, 8]], before, labels=["stayed", "fell", "small"])
    fell, small, stayed = details_of(evidence)["labels"]["shown"]
    assert [one["label"] for one in (fell, small, stayed)] == ["fell", "small", "stayed"]
    assert [one["enough"] for one in (fell, small, stayed)] == [True, False, True]
    assert fell["better_by"]["value"] == pytest.approx(fell["candidate"]["f1"] - fell["champion"]["f1"])
    assert fell["better_by"]["high"] < 0


def test_of_very_many_labels_the_worst_are_told(monkeypatch):
    monkeypatch.setattr(verdict_details, "SHOWN_LABELS", 3)
    size = 20
    worse = [[40 - i if i == j else i if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    even = [[40 if i == j else 0 for j in range(size)] for i in range(size)]
    found = details_of(report(worse, even))["labels"]
    assert found["count"] == size
    assert [one["label"] for one in found["shown"]] == ["label 19", "label 18", "label 17"]


def test_a_slice_has_the_accuracy_of_both_and_one_without_rows_has_none():
    evidence = report(two(900), two(800))
    kept = answers(evidence)
    members = {"half": np.arange(1000) < 500, "few": np.arange(1000) < 20, "none": np.zeros(1000, bool)}
    evidence["slices"] = [
        {"name": name, "rows": int(rows.sum()), "description": name} for name, rows in members.items()
    ]
    evidence["membership"] = "file:///store/membership.parquet"
    half, few, none = details_of(evidence, replace(kept, slices=members))["slices"]
    assert (half["candidate"], half["champion"]) == (pytest.approx(0.9), pytest.approx(0.8))
    assert half["better_by"]["low"] < 0.1 < half["better_by"]["high"]
    assert (half["enough"], few["enough"]) == (True, False)
    assert none == {"name": "none", "description": "none", "rows": 0}


def test_sureness_is_told_in_the_groups_of_the_calibration_error():
    evidence = binary(800)
    kept = replace(answers(evidence), sureness={"candidate": np.repeat([0.55, 0.95], 500)})
    right = kept.predicted["candidate"] == kept.truth
    low, high = details_of(evidence, kept)["calibration"]["candidate"]
    assert low == {"rows": 500, "sure": pytest.approx(0.55), "right": pytest.approx(right[:500].mean())}
    assert high == {"rows": 500, "sure": pytest.approx(0.95), "right": pytest.approx(right[500:].mean())}


def test_few_labels_have_a_matrix_and_many_the_cells_that_changed_most():
    assert details_of(binary(900, 800))["confusion"] == {
        "labels": ["label 0", "label 1"],
        "candidate": two(900),
        "champion": two(800),
    }
    size = 20
    even = [[40 if i == j else 0 for j in range(size)] for i in range(size)]
    other = [list(row) for row in even]
    other[3][3], other[3][7] = 28, 12
    other[5][5], other[5][6] = 38, 2
    found = details_of(report(other, even))["confusion"]
    assert found["count"] == 2
    assert found["commonest"] == [
        {"true": "label 3", "taken_for": "label 7", "candidate": 12, "champion": 0},
        {"true": "label 5", "taken_for": "label 6", "candidate": 2, "champion": 0},
    ]


def shown_by(kept, places):
    return [kept.hashes[place].as_py() for place in places]


def test_examples_are_the_rows_that_one_model_alone_gets_right_the_surest_first():
    evidence = binary(900, 880)
    kept = answers(evidence, seed=3)
    right = {role: said == kept.truth for role, said in kept.predicted.items()}
    sure = kept.sureness["candidate"]
    found = details_of(evidence, kept)["examples"]
    for kind, rows in (
        ("worse", right["champion"] & ~right["candidate"]),
        ("better", right["candidate"] & ~right["champion"]),
    ):
        places = sorted(np.flatnonzero(rows), key=lambda place: -sure[place])
        assert found[kind]["count"] == len(places) > 25
        assert [one["text_sha256"] for one in found[kind]["shown"]] == shown_by(kept, places[:25])
    first = found["worse"]["shown"][0]
    assert first["candidate"]["label"] != first["label"] == first["champion"]["label"]
    assert first["candidate"]["score"] == max(one["candidate"]["score"] for one in found["worse"]["shown"])


def test_without_a_champion_the_surest_mistakes_are_shown():
    found = details_of(binary(900))["examples"]
    assert list(found) == ["wrong"]
    assert found["wrong"]["count"] == 100


def test_a_text_is_shown_with_the_hash_of_the_whole_of_it():
    long = "a word " * 200
    _verdict, details = judged(binary(900), texts=lambda hashes: dict.fromkeys(hashes[:1], long))
    first, second = details["examples"]["wrong"]["shown"][:2]
    assert len(first["text"]) <= 300
    assert first["text_sha256"] == text_hash(long)
    assert "text" not in second


def test_a_candidate_that_is_the_champion_differs_in_nothing():
    details = details_of(binary(900, 900, champion_digest=CANDIDATE))
    assert [one["better_by"]["value"] for one in details["metrics"]] == [0] * 5
    assert details["examples"]["worse"]["count"] == details["examples"]["better"]["count"] == 0
    assert metric(details, "accuracy")["interval"]["low"] < 0.9


def test_totals_are_told_also_where_the_answers_were_not_kept():
    read = read_report(binary(900, 800))
    details = verdict_details.verdict_details(read, None, Rules(), no_texts, 0)
    assert metric(details, "accuracy")["candidate"] == computed_metrics(two(900))["accuracy"]
    assert metric(details, "accuracy")["better_by"] == {"value": pytest.approx(0.1)}
    assert details["examples"] == details["calibration"] == {}
