from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reports import CANDIDATE, CHAMPION, TEST_SET, binary, report
from training.contract import BadInput
from training.gate import Rules, Verdict, decide

ACCURACY = {"metric": "accuracy"}


def test_a_better_candidate_is_promoted_with_its_reasons():
    verdict = decide(binary(910, 884), Rules(minimum={"accuracy": 0.85}, **ACCURACY))
    assert verdict.decision == "promote"
    assert verdict.reasons == [
        "accuracy 0.910 reaches the minimum 0.850",
        "accuracy 0.910 is above the champion's 0.884 by 0.026",
    ]
    assert verdict.candidate == {"model": "models:/sentiment/4", "digest": CANDIDATE}
    assert verdict.champion == {"model": "models:/sentiment/3", "digest": CHAMPION}
    assert verdict.test_set == TEST_SET


def test_a_worse_candidate_is_held_and_the_reason_has_the_values():
    verdict = decide(binary(871, 884), Rules(**ACCURACY))
    assert verdict.decision == "hold"
    assert verdict.reasons == ["accuracy 0.871 is below the champion's 0.884 by 0.013, more than 0.010"]
    [rule] = verdict.rules
    assert (rule.name, rule.outcome) == ("no_worse_by.accuracy", "fail")
    assert rule.value == pytest.approx(-0.013)
    assert rule.bound == -0.01


def test_a_candidate_below_a_minimum_is_held_however_bad_the_champion_is():
    verdict = decide(binary(840, 500), Rules(minimum={"accuracy": 0.85}, **ACCURACY))
    assert verdict.decision == "hold"
    assert verdict.reasons == ["accuracy 0.840 is below the minimum 0.850"]


@pytest.mark.parametrize(("right", "champion"), [(874, 884), (80, 90), (560, 570), (1, 11)])
def test_exactly_at_the_margin_is_promoted_whatever_the_binary_fractions(right, champion):
    assert decide(binary(right, champion), Rules(**ACCURACY)).decision == "promote"


def test_one_row_beyond_the_margin_is_held_and_the_reason_shows_the_difference():
    verdict = decide(binary(87399, 88400, rows=100_000), Rules(**ACCURACY))
    assert verdict.decision == "hold"
    assert verdict.reasons == ["accuracy 0.874 is below the champion's 0.884 by 0.01001, more than 0.01000"]


def test_a_tiny_difference_is_not_shown_as_none():
    verdict = decide(binary(88396, 88400, rows=100_000), Rules(**ACCURACY))
    assert verdict.reasons == ["accuracy 0.88396 is below the champion's 0.88400 by 0.00004, no more than 0.01000"]


def test_exactly_at_the_minimum_is_promoted():
    assert decide(binary(850), Rules(minimum={"accuracy": 0.85})).decision == "promote"


def test_the_first_run_is_judged_by_the_minimum_rules_and_says_so():
    verdict = decide(binary(900), Rules(minimum={"f1_macro": 0.85}))
    assert verdict.decision == "promote"
    assert verdict.reasons[-1] == "there is no champion yet, only the minimum rules were applied"
    assert decide(binary(800), Rules(minimum={"f1_macro": 0.85})).decision == "hold"


def test_a_first_model_that_no_rule_judges_is_promoted_and_the_verdict_says_so():
    verdict = decide(binary(220), Rules())
    assert verdict.decision == "promote"
    assert verdict.reasons == [
        "there is no champion yet and no rule in gate.minimum: a first model is promoted however bad it is"
    ]


def test_labels_without_a_test_row_are_named():
    confusion = [[50, 0, 0, 0], [0, 50, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    verdict = decide(report(confusion, labels=["a", "b", "lost card", "refund"]), Rules())
    assert verdict.decision == "promote"
    assert verdict.reasons[-1] == "2 of 4 labels have no test row, so nothing is known of them: lost card, refund"


def test_a_label_with_few_test_rows_is_noted_and_decides_nothing():
    confusion = [[50, 0, 0, 0], [0, 10, 0, 0], [0, 2, 7, 0], [1, 0, 0, 0]]
    verdict = decide(report(confusion, labels=["a", "ten", "nine", "one"]), Rules())
    assert verdict.decision == "promote"
    assert verdict.notes == [
        "label 'one' has 1 test row: its scores say little",
        "label 'nine' has 9 test rows: its scores say little",
    ]
    assert not any("test row" in reason for reason in verdict.reasons)


def test_of_many_labels_with_few_test_rows_the_poorest_are_named_and_the_others_counted():
    rows = [[3 if i == j else 0 for j in range(150)] for i in range(150)]
    rows[149][149] = 1
    notes = decide(report(rows), Rules()).notes
    assert len(notes) == 11
    assert notes[0].startswith("label 'label 149' has 1 test row:")
    assert notes[-1] == "140 more labels have fewer than 10 test rows"


def test_a_test_set_of_one_label_promotes_nothing():
    verdict = decide(report([[100, 0], [0, 0]], labels=["a", "b"]), Rules(minimum={"accuracy": 0.5}))
    assert verdict.decision == "hold"
    assert verdict.reasons == [
        "the test set has rows of 1 label; a model that always answers it would look perfect",
        "1 of 2 labels have no test row, so nothing is known of them: b",
    ]


def test_for_log_loss_lower_is_better():
    rules = Rules(metric="log_loss", no_worse_by=0.05)
    worse = decide(binary(900, 900, log_loss=(0.40, 0.30)), rules)
    assert worse.decision == "hold"
    assert worse.reasons == ["log_loss 0.400 is above the champion's 0.300 by 0.100, more than 0.050"]
    assert decide(binary(900, 900, log_loss=(0.20, 0.30)), rules).decision == "promote"


def test_the_champion_judged_again_is_promoted_again():
    verdict = decide(binary(900, 900, champion_digest=CANDIDATE), Rules(minimum={"accuracy": 0.85}))
    assert verdict.decision == "promote"
    assert "the candidate is the champion already; there is nothing to compare" in verdict.reasons


def test_a_champion_that_no_longer_reaches_the_minimum_is_not_waved_through():
    verdict = decide(binary(900, 900, champion_digest=CANDIDATE), Rules(minimum={"accuracy": 0.95}))
    assert verdict.decision == "hold"


def test_without_comparison_only_the_minimum_decides():
    verdict = decide(binary(860, 990), Rules(minimum={"accuracy": 0.85}, no_worse_by=None))
    assert verdict.decision == "promote"
    assert verdict.reasons[-1] == "the rules do not compare with the champion"


@pytest.mark.parametrize(
    "rules",
    [
        {"no_worse_by": -0.01},
        {"no_worse_by": 1.5},
        {"no_worse_by": math.nan},
        {"no_worse_by": math.inf, "metric": "log_loss"},
        {"no_worse_by": True},
        {"no_worse_by": "0.1"},
        {"minimum": {"f1_macro": 1.01}},
        {"minimum": {"f1_macro": -0.1}},
        {"minimum": {"f1_macro": math.nan}},
        {"minimum": {"f1_macro": None}},
        {"minimum": {"f1_macro": True}},
        {"minimum": {"log_loss": 0.3}},
        {"minimum": {"f1": 0.3}},
        {"minimum": [0.3]},
        {"metric": "f1"},
        {"unknown": 1},
    ],
)
def test_rules_that_make_no_sense_are_refused(rules):
    with pytest.raises(BadInput):
        Rules.from_dict(rules)


@pytest.mark.parametrize("broken", [None, [], "report", {}, {"candidate": {}}, 3])
def test_what_is_no_report_is_held(broken):
    verdict = decide(broken, Rules())
    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith("The evaluation report cannot be used:")


def test_a_report_of_an_earlier_version_is_held_with_what_to_do():
    old = binary(900, 900)
    for name in ("best", "baseline", "slices", "membership", "behaviour"):
        del old[name]
    verdict = decide(old, Rules())
    assert verdict.decision == "hold"
    assert verdict.reasons == [
        "The evaluation report cannot be used: an earlier version of Ratchet wrote it and measured less. "
        "Run the evaluation again."
    ]


@pytest.mark.parametrize("role", ["best", "baseline"])
def test_what_else_stands_beside_the_candidate_must_be_of_the_same_rows(role):
    mixed = binary(900, 900)
    mixed[role] = report([[500, 100], [50, 350]])["candidate"]
    mixed["predictions"][role] = "file:///store/predictions/3/predictions.parquet"
    assert f"Candidate and {role} were not scored on the same rows" in decide(mixed, Rules()).reasons[0]
    mixed[role] = report([[400, 100], [50, 450]])["candidate"] | {"digest": "b" * 64}
    assert decide(mixed, Rules()).decision == "promote"


def test_different_test_rows_are_not_comparable():
    mixed = binary(900, 900)
    mixed["champion"] = report([[500, 100], [50, 350]], [[500, 100], [50, 350]])["champion"]
    verdict = decide(mixed, Rules())
    assert verdict.decision == "hold"
    assert "not scored on the same rows" in verdict.reasons[0]


def test_a_champion_that_was_named_but_not_scored_is_held():
    unscored = binary(900, 900)
    unscored["champion"] = {"model": "models:/sentiment/3", "digest": CHAMPION}
    assert decide(unscored, Rules()).decision == "hold"
    forgotten = binary(900, 900)
    forgotten["champion"] = None
    assert decide(forgotten, Rules()).decision == "hold"


def places(value, path=()):
    """Every key and index in a report, deepest last."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in items:
        yield (*path, name)
        yield from places(child, (*path, name))


def damaged(whole, place, change):
    whole = copy.deepcopy(whole)
    parent = whole
    for step in place[:-1]:
        parent = parent[step]
    change(parent, place[-1])
    return whole


SOUND = report([[90, 6, 4], [3, 80, 7], [2, 1, 7]], [[88, 8, 4], [3, 80, 7], [2, 1, 7]], ["neg", "neu", "pos"])
LENIENT = Rules(minimum={"f1_macro": 0.0, "accuracy": 0.0, "f1_weighted": 0.0}, no_worse_by=1.0)


def test_the_undamaged_report_is_promoted():
    assert decide(SOUND, LENIENT).decision == "promote"


@pytest.mark.parametrize("place", list(places(SOUND)), ids=lambda place: ".".join(map(str, place)))
def test_a_report_with_anything_deleted_is_never_promoted(place):
    def delete(parent, name):
        del parent[name]

    assert decide(damaged(SOUND, place, delete), LENIENT).decision == "hold"


WRONG = [None, math.nan, math.inf, -math.inf, -1, 1e300, 10**400, True, "", [], {}, [None], {"a": 1}]


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from(list(places(SOUND))), wrong=st.sampled_from(WRONG))
def test_a_report_with_anything_corrupted_is_never_promoted(place, wrong):
    def corrupt(parent, name):
        parent[name] = wrong

    report = damaged(SOUND, place, corrupt)
    assume(json.dumps(report) != json.dumps(SOUND))  # as it was
    verdict = decide(report, LENIENT)
    assert verdict.decision == "hold"
    json.loads(verdict.to_json())


rights = st.integers(0, 1000)
margins = st.decimals(0, 1, places=3).map(float)


@given(right=rights, champion=rights, margin=margins)
def test_a_candidate_worse_by_more_than_the_margin_is_never_promoted(right, champion, margin):
    verdict = decide(binary(right, champion), Rules(no_worse_by=margin, **ACCURACY))
    worse = Fraction(champion - right, 1000) > Fraction(str(margin))
    assert verdict.decision == ("hold" if worse else "promote")


@given(
    right=rights,
    champion=st.none() | rights,
    minimum=st.dictionaries(st.sampled_from(["accuracy", "f1_macro", "f1_weighted"]), st.floats(0, 1)),
    extra=st.dictionaries(st.sampled_from(["accuracy", "f1_macro", "f1_weighted"]), st.floats(0, 1)),
    margin=st.none() | margins,
)
def test_one_more_rule_never_turns_hold_into_promote(right, champion, minimum, extra, margin):
    evidence = binary(right, champion)
    fewer = decide(evidence, Rules(minimum=minimum, no_worse_by=None))
    stricter = {name: max(minimum.get(name, 0), extra.get(name, 0)) for name in {*minimum, *extra}}
    more = decide(evidence, Rules(minimum=stricter, no_worse_by=margin))
    assert (fewer.decision, more.decision) != ("hold", "promote")


def test_a_verdict_survives_json():
    verdict = decide(binary(871, 884), Rules(minimum={"accuracy": 0.9}))
    assert Verdict.from_dict(json.loads(verdict.to_json())) == verdict


def test_a_verdict_from_before_there_were_notes_is_still_read():
    values = json.loads(decide(binary(871, 884), Rules()).to_json())
    del values["notes"]
    assert Verdict.from_dict(values).notes == []


def test_the_gate_imports_the_standard_library_alone():
    code = "import sys, training.gate; print(*{m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert set(output.split()) <= {"training", "__main__"}
