"""What a gate decides, and what it says of it."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.reports import BEST, CANDIDATE, CHAMPION, TEST_SET, answers, binary, report, two
from training.contract import BadInput
from training.gate import decide
from training.rules import Rules
from training.verdict import Verdict

ACCURACY = {"metric": "accuracy", "group_no_worse_by": None}


def judged(evidence, seed=None, slices=None, **rules):
    told = [{"name": name, "rows": int(rows.sum()), "description": name} for name, rows in (slices or {}).items()]
    return decide({**evidence, "slices": told}, answers(evidence, seed, slices), Rules(**rules))


def reasons(verdict):
    """:return: what the rules said that this is about: every release here answers as its checkpoint."""
    return [
        reason
        for reason in verdict.reasons
        if not reason.startswith("the release answers within tolerance as its checkpoint")
    ]


def rules_of(verdict):
    return [rule for rule in verdict.rules if rule.name != "agreement"]


def test_a_better_candidate_is_promoted_with_its_reasons():
    verdict = judged(binary(910, 884), minimum={"accuracy": 0.85}, **ACCURACY)
    assert verdict.decision == "promote"
    minimum, compared = reasons(verdict)
    assert minimum == "accuracy 0.910 reaches the minimum 0.850"
    assert compared.startswith(
        "accuracy 0.910 is above the champion's 0.884, by 0.026; with 95% confidence it is at least"
    )
    assert compared.endswith("(26 rows are right in the candidate alone, 0 in the other; McNemar p 3e-08)")
    assert verdict.candidate == {"model": "models:/sentiment/4", "digest": CANDIDATE}
    assert verdict.champion == {"model": "models:/sentiment/3", "digest": CHAMPION}
    assert verdict.test_set == TEST_SET


def test_a_candidate_shown_to_be_worse_is_held_and_the_reason_has_the_values():
    verdict = judged(binary(834, 884), no_worse_by=0.02, **ACCURACY)
    assert verdict.decision == "hold"
    [rule] = rules_of(verdict)
    assert (rule.name, rule.outcome, rule.rows) == ("no_worse_by.accuracy", "fail", 1000)
    assert rule.value == pytest.approx(-0.05)
    assert rule.bound == -0.02
    assert rule.low < rule.value < rule.high < rule.bound
    assert verdict.reasons == [rule.reason]
    assert rule.reason.startswith(
        "accuracy 0.834 is below the champion's 0.884, by 0.050; with 95% confidence it is at "
    )
    assert "more than the 0.02 allowed" in rule.reason


def test_what_the_test_rows_cannot_tell_is_undecided_and_says_how_many_could():
    evidence, rules = binary(870, 884), {"no_worse_by": 0.02, **ACCURACY}
    verdict = judged(evidence, seed=0, **rules)
    [rule] = rules_of(verdict)
    assert (verdict.decision, rule.outcome) == ("hold", "undecided")
    assert rule.low < rule.bound < rule.high
    assert rule.rows_to_decide > 1000
    assert "1,000 test rows do not tell whether it is worse by more than 0.02" in rule.reason
    shown = float(re.search(r"about ([\d,]+) would if it stayed so", rule.reason)[1].replace(",", ""))
    assert shown == pytest.approx(rule.rows_to_decide, rel=0.05)
    assert judged(evidence, seed=0, approval="undecided", **rules).decision == "ask"
    assert judged(evidence, seed=0, approval="always", **rules).decision == "ask"


def test_a_person_is_asked_about_a_promotion_where_that_is_wanted_and_never_about_a_hold():
    assert judged(binary(910, 884), approval="always", **ACCURACY).decision == "ask"
    assert judged(binary(910, 884), approval="undecided", **ACCURACY).decision == "promote"
    assert judged(binary(800, 884), approval="always", **ACCURACY).decision == "hold"


def test_the_mean_of_equal_models_is_no_reason_to_hold():
    assert judged(binary(884, 884), **ACCURACY).decision == "promote"


def test_a_candidate_below_a_minimum_is_held_however_bad_the_champion_is():
    verdict = judged(binary(840, 500), minimum={"accuracy": 0.85}, **ACCURACY)
    assert verdict.decision == "hold"
    assert verdict.reasons == ["accuracy 0.840 is below the minimum 0.850"]


def test_a_candidate_above_a_maximum_is_held():
    verdict = judged(binary(900, log_loss=(0.4, 0.3)), maximum={"log_loss": 0.35})
    assert verdict.decision == "hold"
    assert verdict.reasons == ["log_loss 0.400 is above the maximum 0.350"]
    assert judged(binary(900, log_loss=(0.3, 0.3)), maximum={"log_loss": 0.35}).decision == "promote"


COSTS = {"latency_p95_ms": 2.5, "disk_mb": 180.0, "memory_mb": 120.0, "calibration_error": 0.05}  # tests/reports.py


@pytest.mark.parametrize("name", COSTS)
def test_what_serving_costs_has_a_budget(name):
    assert judged(binary(900), maximum={name: COSTS[name]}).decision == "promote"
    verdict = judged(binary(900), maximum={name: COSTS[name] * 0.99})
    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith(f"{name} ")
    assert "is above the maximum" in verdict.reasons[0]


def test_a_release_that_answers_otherwise_than_its_checkpoint_is_held():
    evidence = binary(900)
    evidence["candidate"]["serving"]["agreement"] |= {"rows_beyond_tolerance": 2, "largest_difference": 0.3}
    verdict = judged(evidence)
    assert verdict.decision == "hold"
    assert verdict.reasons == [
        "the release answers 2 test rows otherwise than its checkpoint (scores differ by up to 0.3, 0.001 is allowed)"
    ]


def test_weights_that_are_barred_are_held_whatever_their_scores():
    evidence = binary(990, 884)
    barred = {CANDIDATE: "these weights, version 4, were barred by anna: it answers in French"}
    verdict = decide(evidence, answers(evidence), Rules(**ACCURACY), barred)
    assert (verdict.decision, verdict.reasons) == ("hold", [barred[CANDIDATE]])
    assert decide(evidence, answers(evidence), Rules(**ACCURACY), {BEST: "another"}).decision == "promote"


def behaviour(failures, cases=20):
    rate = (cases - failures) / cases if cases else 0.0
    test = {"name": "case", "kind": "invariance", "description": "lower case", "cases": cases, "failures": failures}
    passed = bool(cases) and rate >= 0.95
    return {"passed": passed, "tests": [{**test, "rate": rate, "pass": 0.95, "passed": passed, "examples": []}]}


def test_a_behaviour_test_that_fails_holds():
    assert judged({**binary(900), "behaviour": behaviour(1)}).decision == "promote"
    verdict = judged({**binary(900), "behaviour": behaviour(2)})
    assert verdict.decision == "hold"
    assert verdict.reasons == ["behaviour test 'case': 2 of 20 cases failed; 95% have to pass"]
    empty = judged({**binary(900), "behaviour": behaviour(0, cases=0)})
    assert empty.reasons == ["behaviour test 'case': nothing in the test split is what it is about; 95% have to pass"]


def test_better_is_promoted_only_when_it_is_shown():
    better = {"better": True, "no_worse_by": 0.1, **ACCURACY}
    assert judged(binary(910, 884), **better).decision == "promote"
    same = judged(binary(884, 884), **better)
    assert (same.decision, [rule.outcome for rule in rules_of(same)]) == ("hold", ["pass", "undecided"])
    unclear = judged(binary(886, 884), seed=0, **better)
    assert (unclear.decision, [rule.outcome for rule in rules_of(unclear)]) == ("hold", ["pass", "undecided"])
    assert "do not tell that it is better" in unclear.reasons[0]


def test_the_first_run_is_judged_by_the_bounds_and_says_so():
    verdict = judged(binary(900), minimum={"f1_macro": 0.85})
    assert verdict.decision == "promote"
    assert verdict.raises_mark
    assert verdict.reasons[-1] == "there is no champion yet, only the bounds were applied"
    assert judged(binary(800), minimum={"f1_macro": 0.85}).decision == "hold"


def test_a_first_model_that_no_rule_judges_is_promoted_and_the_verdict_says_so():
    verdict = judged(binary(220))
    assert verdict.decision == "promote"
    assert reasons(verdict) == [
        "there is no champion yet and no rule in gate.minimum: a first model is promoted however bad it is"
    ]


def test_labels_without_a_test_row_are_named():
    confusion = [[50, 0, 0, 0], [0, 50, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    verdict = judged(report(confusion, labels=["a", "b", "lost card", "refund"]))
    assert verdict.decision == "promote"
    assert verdict.reasons[-1] == "2 of 4 labels have no test row, so nothing is known of them: lost card, refund"


def test_a_label_with_few_test_rows_is_noted_and_decides_nothing():
    confusion = [[50, 0, 0, 0], [0, 10, 0, 0], [0, 2, 7, 0], [1, 0, 0, 0]]
    verdict = judged(report(confusion, labels=["a", "ten", "nine", "one"]))
    assert verdict.decision == "promote"
    assert verdict.notes == [
        "label 'one' has 1 test row: its scores say little",
        "label 'nine' has 9 test rows: its scores say little",
    ]
    assert not any("test row" in reason for reason in verdict.reasons)


def test_of_many_labels_with_few_test_rows_the_poorest_are_named_and_the_others_counted():
    rows = [[3 if i == j else 0 for j in range(150)] for i in range(150)]
    rows[149][149] = 1
    notes = judged(report(rows)).notes
    assert len(notes) == 11
    assert notes[0].startswith("label 'label 149' has 1 test row:")
    assert notes[-1] == "140 more labels have fewer than 10 test rows"


def test_a_test_set_of_one_label_promotes_nothing():
    verdict = judged(report([[100, 0], [0, 0]], labels=["a", "b"]), minimum={"accuracy": 0.5})
    assert verdict.decision == "hold"
    assert verdict.reasons == [
        "the test set has rows of 1 label; a model that always answers it would look perfect",
        "1 of 2 labels have no test row, so nothing is known of them: b",
    ]


def test_what_the_rows_cannot_tell_is_said_from_its_worse_end():
    evidence = binary(87, 88, rows=100)
    [reason] = decide(evidence, answers(evidence, seed=0), Rules(**ACCURACY)).reasons
    assert re.search(r"do not tell whether .* \(0\.\d+ worse to 0\.\d+ better with 95% confidence\)", reason)


def test_for_log_loss_lower_is_better():
    rules = {"metric": "log_loss", "no_worse_by": 0.05}
    worse = judged(binary(900, 900, log_loss=(0.40, 0.30)), **rules)
    assert worse.decision == "hold"
    assert worse.reasons == [
        "log_loss 0.400 is above the champion's 0.300, by 0.100; with 95% confidence it is at least 0.100 worse, more "
        "than the 0.05 allowed"
    ]
    assert judged(binary(900, 900, log_loss=(0.20, 0.30)), **rules).decision == "promote"


def test_the_champion_judged_again_is_promoted_again():
    verdict = judged(binary(900, 900, champion_digest=CANDIDATE), minimum={"accuracy": 0.85})
    assert verdict.decision == "promote"
    assert "the candidate is the champion already; there is nothing to compare" in verdict.reasons


def test_nobody_is_asked_about_what_serves_already():
    assert judged(binary(900, 900, champion_digest=CANDIDATE), approval="always").decision == "promote"


def test_a_champion_that_no_longer_reaches_the_minimum_is_not_waved_through():
    verdict = judged(binary(900, 900, champion_digest=CANDIDATE), minimum={"accuracy": 0.95})
    assert verdict.decision == "hold"


def test_without_comparison_only_the_bounds_decide():
    verdict = judged(binary(860, 990), minimum={"accuracy": 0.85}, no_worse_by=None)
    assert verdict.decision == "promote"
    assert verdict.reasons[-1] == "the rules do not compare with the champion"


# slices and labels


def halves(rows=1000):
    first = np.zeros(rows, bool)
    first[: rows // 2] = True
    return {"first": first, "second": ~first}


def test_a_regression_in_one_slice_at_equal_overall_accuracy_is_held():
    # the rows of the first label are the first half: the candidate loses 80 of them and wins 80 elsewhere
    evidence = report([[400, 100], [10, 490]], [[480, 20], [90, 410]], ["neg", "pos"])
    verdict = judged(evidence, slices=halves(), metric="accuracy", no_worse_by=0.1)
    assert verdict.decision == "hold"
    failed = [rule for rule in verdict.rules if rule.outcome == "fail"]
    assert [rule.name for rule in failed] == ["group.slice 'first'"]
    assert failed[0].value == pytest.approx(-0.16)
    assert failed[0].reason.startswith(
        "slice 'first': accuracy is 0.160 below the champion's, shown to be more than the"
    )
    assert judged(evidence, metric="accuracy", no_worse_by=0.1, group_no_worse_by=None).decision == "promote"


def test_what_is_shown_to_be_worse_within_what_is_allowed_is_told():
    evidence = report([[440, 60], [10, 490]], [[480, 20], [50, 450]], ["neg", "pos"])
    verdict = judged(evidence, slices=halves(), metric="accuracy", no_worse_by=0.1, group_no_worse_by=0.2)
    assert verdict.decision == "promote"
    [note] = verdict.notes
    assert re.fullmatch(r"slice 'first': accuracy is shown to be worse, by 0\.0\d\d to 0\.\d{3}; 0\.2 is allowed", note)


def test_a_label_that_is_lost_is_held_though_the_average_stands():
    champion = [[90, 10, 0], [10, 90, 0], [0, 0, 800]]
    candidate = [[50, 50, 0], [0, 100, 0], [0, 0, 800]]
    verdict = judged(report(candidate, champion, ["a", "b", "c"]), no_worse_by=0.2)
    assert [rule.name for rule in verdict.rules if rule.outcome == "fail"] == ["group.label 'a'"]


def test_a_small_slice_never_decides():
    evidence = report([[400, 100], [10, 490]], [[480, 20], [90, 410]], ["neg", "pos"])
    lost = np.zeros(1000, bool)
    lost[420:460] = True  # all of them right in the champion and wrong in the candidate
    rules = {"metric": "accuracy", "no_worse_by": 0.1}
    assert judged(evidence, slices={"few": lost}, **rules).decision == "promote"
    assert judged(evidence, slices={"few": lost}, group_rows=40, **rules).decision == "hold"


def test_noise_in_many_slices_holds_nothing():
    evidence = binary(900, 900)
    random = np.random.default_rng(0)
    slices = {f"slice {i}": random.random(1000) < 0.2 for i in range(50)}
    verdict = judged(evidence, seed=1, slices=slices, metric="accuracy", no_worse_by=0.1)
    assert verdict.decision == "promote"


# the mark


def test_small_losses_do_not_add_up():
    """Thirty candidates in a row, each a little worse than the champion and within the margin of it."""
    rows, margin = 2000, 0.02
    right = 1800
    champion = best = right
    promoted = 0
    for _ in range(30):
        candidate = champion - 6  # 0.3 percentage points
        evidence = report(two(candidate, rows), two(champion, rows), best=two(best, rows))
        if judged(evidence, metric="accuracy", no_worse_by=margin).decision == "promote":
            champion, promoted = candidate, promoted + 1
    assert promoted > 1  # the gate lets small losses through
    assert best - champion <= margin * rows  # and never more than one margin of them


def test_the_mark_says_so_when_it_holds():
    evidence = report(two(860), two(870), best=two(900))
    verdict = judged(evidence, metric="accuracy")
    assert verdict.decision == "hold"
    assert verdict.best == {"model": "models:/sentiment/2", "digest": BEST}
    [reason] = verdict.reasons
    assert reason.startswith("accuracy 0.860 is below the best ever promoted, 0.900, by 0.040")
    assert not verdict.raises_mark


def test_the_mark_rises_with_a_candidate_as_good_as_the_best():
    assert judged(report(two(900), two(880), best=two(900)), **ACCURACY).raises_mark
    assert not judged(report(two(899), two(880), best=two(900)), **ACCURACY).raises_mark
    assert judged(binary(900, 900), **ACCURACY).raises_mark


# what cannot be believed


@pytest.mark.parametrize(
    "rules",
    [
        {"no_worse_by": -0.01},
        {"no_worse_by": 1.5},
        {"no_worse_by": math.nan},
        {"no_worse_by": math.inf, "metric": "log_loss"},
        {"no_worse_by": True},
        {"no_worse_by": "0.1"},
        {"group_no_worse_by": -0.1},
        {"minimum": {"f1_macro": 1.01}},
        {"minimum": {"f1_macro": -0.1}},
        {"minimum": {"f1_macro": math.nan}},
        {"minimum": {"f1_macro": None}},
        {"minimum": {"f1_macro": True}},
        {"minimum": {"log_loss": 0.3}},
        {"minimum": {"f1": 0.3}},
        {"minimum": [0.3]},
        {"maximum": {"accuracy": 0.3}},
        {"maximum": {"log_loss": -1}},
        {"metric": "f1"},
        {"confidence": 0.5},
        {"confidence": 1},
        {"approval": "sometimes"},
        {"better": True, "no_worse_by": None},
        {"unknown": 1},
    ],
)
def test_rules_that_make_no_sense_are_refused(rules):
    with pytest.raises(BadInput):
        Rules.from_dict(rules)


@pytest.mark.parametrize("broken", [None, [], "report", {}, {"candidate": {}}, 3])
def test_what_is_no_report_is_held(broken):
    verdict = decide(broken, None, Rules())
    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith("The evaluation report cannot be used:")


def test_a_report_of_an_earlier_version_is_held_with_what_to_do():
    old = binary(900, 900)
    for name in ("best", "baseline", "slices", "membership", "behaviour"):
        del old[name]
    verdict = decide(old, answers(binary(900, 900)), Rules())
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
    kept = answers(binary(900, 900))
    assert f"Candidate and {role} were not scored on the same rows" in decide(mixed, kept, Rules()).reasons[0]
    mixed[role] = report(two(880))["candidate"] | {"digest": BEST}
    assert judged(mixed).decision == "promote"


def test_different_test_rows_are_not_comparable():
    mixed = binary(900, 900)
    mixed["champion"] = report([[500, 100], [50, 350]], [[500, 100], [50, 350]])["champion"]
    verdict = decide(mixed, answers(binary(900, 900)), Rules())
    assert verdict.decision == "hold"
    assert "not scored on the same rows" in verdict.reasons[0]


def test_a_champion_that_was_named_but_not_scored_is_held():
    unscored = binary(900, 900)
    unscored["champion"] = {"model": "models:/sentiment/3", "digest": CHAMPION}
    assert decide(unscored, answers(binary(900, 900)), Rules()).decision == "hold"
    forgotten = binary(900, 900)
    forgotten["champion"] = None
    assert decide(forgotten, answers(binary(900)), Rules()).decision == "hold"


def test_answers_that_were_not_kept_are_held():
    verdict = decide(binary(900, 900), None, Rules())
    assert (verdict.decision, verdict.rules) == ("hold", [])
    assert "were not kept" in verdict.reasons[0]


@pytest.mark.parametrize("role", ["candidate", "champion"])
def test_answers_that_do_not_give_the_report_are_held(role):
    evidence = binary(910, 884)
    kept = answers(evidence)
    other = kept.predicted[role].copy()
    other[0] = 1 - other[0]
    verdict = decide(evidence, replace(kept, predicted={**kept.predicted, role: other}), Rules())
    assert verdict.decision == "hold"
    assert f"the kept answers of {role} do not give its confusion matrix" in verdict.reasons[0]
    losses = {**kept.losses, role: kept.losses[role] + 0.1}
    assert "log_loss" in decide(evidence, replace(kept, losses=losses), Rules()).reasons[0]


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


CONFUSION = [[88, 8, 4], [3, 80, 7], [2, 1, 7]]
SOUND = report([[90, 6, 4], [3, 80, 7], [2, 1, 7]], CONFUSION, ["neg", "neu", "pos"], best=CONFUSION)
KEPT = answers(SOUND)
LENIENT = Rules(minimum={"f1_macro": 0.0, "accuracy": 0.0, "f1_weighted": 0.0}, no_worse_by=1.0, group_no_worse_by=1.0)


def test_the_undamaged_report_is_promoted():
    assert decide(SOUND, KEPT, LENIENT).decision == "promote"


@pytest.mark.parametrize("place", list(places(SOUND)), ids=lambda place: ".".join(map(str, place)))
def test_a_report_with_anything_deleted_is_never_promoted(place):
    def delete(parent, name):
        del parent[name]

    assert decide(damaged(SOUND, place, delete), KEPT, LENIENT).decision == "hold"


WRONG = [None, math.nan, math.inf, -math.inf, -1, 1e300, 10**400, True, "", [], {}, [None], {"a": 1}]


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from(list(places(SOUND))), wrong=st.sampled_from(WRONG))
def test_a_report_with_anything_corrupted_is_never_promoted(place, wrong):
    def corrupt(parent, name):
        parent[name] = wrong

    report = damaged(SOUND, place, corrupt)
    assume(json.dumps(report) != json.dumps(SOUND))  # as it was
    verdict = decide(report, KEPT, LENIENT)
    assert verdict.decision == "hold"
    json.loads(verdict.to_json())


rights = st.integers(0, 1000)


@settings(max_examples=40, deadline=None)
@given(
    right=rights,
    champion=st.none() | rights,
    seed=st.integers(0, 100),
    minimum=st.dictionaries(st.sampled_from(["accuracy", "f1_macro", "f1_weighted"]), st.floats(0, 1)),
    extra=st.dictionaries(st.sampled_from(["accuracy", "f1_macro", "f1_weighted"]), st.floats(0, 1)),
    margin=st.none() | st.floats(0, 1),
    better=st.booleans(),
)
def test_one_more_rule_never_turns_hold_into_promote(right, champion, seed, minimum, extra, margin, better):
    evidence = binary(right, champion)
    fewer = judged(evidence, seed=seed, minimum=minimum, no_worse_by=None)
    stricter = {name: max(minimum.get(name, 0), extra.get(name, 0)) for name in {*minimum, *extra}}
    more = judged(evidence, seed=seed, minimum=stricter, no_worse_by=margin, better=better and margin is not None)
    assert (fewer.decision, more.decision) != ("hold", "promote")


@settings(max_examples=40, deadline=None)
@given(right=st.integers(850, 950), other=st.integers(850, 950), seed=st.integers(0, 1000))
def test_swapping_the_models_never_promotes_both_when_better_is_asked_for(right, other, seed):
    rules = {"better": True, **ACCURACY}
    there = binary(right, other)
    back = copy.deepcopy(there)
    back["candidate"], back["champion"] = there["champion"], there["candidate"]
    kept = answers(there, seed)
    swapped = replace(
        kept,
        predicted={"candidate": kept.predicted["champion"], "champion": kept.predicted["candidate"]},
        losses={"candidate": kept.losses["champion"], "champion": kept.losses["candidate"]},
    )
    decisions = decide(there, kept, Rules(**rules)).decision, decide(back, swapped, Rules(**rules)).decision
    assert decisions != ("promote", "promote")


def test_a_verdict_survives_json():
    verdict = judged(binary(871, 884), minimum={"accuracy": 0.9})
    assert Verdict.from_dict(json.loads(verdict.to_json())) == verdict
