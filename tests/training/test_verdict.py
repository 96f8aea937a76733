"""What is handed from step to step stays small however many slices and labels are worse."""

from __future__ import annotations

from training.verdict import TOLD_GROUPS, RuleOutcome, Verdict, shortened


def verdict(groups):
    names = ["no_worse_by.f1_macro", *(f"group.label {number}" for number in range(groups)), "agreement"]
    rules = [
        RuleOutcome(name=name, outcome="fail", value=-0.2, bound=-0.1, reason=f"{name} is worse") for name in names
    ]
    return Verdict(
        decision="hold",
        reasons=[rule.reason for rule in rules],
        rules=rules,
        candidate=None,
        champion=None,
        test_set=None,
    )


def test_a_few_are_all_told():
    assert shortened(verdict(TOLD_GROUPS)) == verdict(TOLD_GROUPS)


def test_of_many_some_are_told_and_how_many_there_are_beside():
    told = shortened(verdict(500))
    assert [rule.name for rule in told.rules][0::21] == ["no_worse_by.f1_macro", "agreement"]
    assert told.reasons[-1] == "480 more slices and labels are shown to be worse; the report has all of them"
    assert len(told.reasons) == TOLD_GROUPS + 3
    assert told.decision == "hold"
