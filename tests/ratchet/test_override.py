"""Who promoted against the gate, what was overruled and why is on record for ever."""

from __future__ import annotations

import pytest

from ratchet.ledger import Ledger
from ratchet.override import override
from training.store import Store

RUN = {"dag_id": "intents", "run_id": "run_1"}
HOLD = {
    "decision": "hold",
    "key": "k1",
    "reasons": ["f1_macro 0.85 is below the minimum 0.9"],
    "rules": [
        {"name": "minimum.f1_macro", "outcome": "fail"},
        {"name": "agreement", "outcome": "pass"},
        {"name": "no_worse_by.f1_macro", "outcome": "undecided"},
    ],
    "candidate": {"model": "models:/intents/4", "digest": "m4"},
    "raises_mark": False,
}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Store(str(tmp_path)), "intents")


def test_the_record_has_who_when_what_and_why(ledger):
    override(ledger, HOLD, "anna", "the customer waits", RUN)
    [record] = ledger.records()
    assert (record["event"], record["who"], record["why"]) == ("overridden", "anna", "the customer waits")
    assert (record["decision"], record["rules"]) == ("hold", ["minimum.f1_macro", "no_worse_by.f1_macro"])
    assert (record["model"], record["version"], record["model_digest"]) == ("intents", "4", "m4")
    assert (record["verdict"], record["run_id"]) == ("k1", "run_1")
    assert record["time"]


def test_the_verdict_promotes_and_sets_the_mark_anew(ledger):
    forced = override(ledger, HOLD, "anna", "the customer waits", RUN)
    assert (forced["decision"], forced["raises_mark"]) == ("promote", True)
    assert forced["reasons"] == [
        "overridden by anna: the customer waits; the gate said hold",
        "f1_macro 0.85 is below the minimum 0.9",
    ]
    assert forced["overridden"] == {"who": "anna", "why": "the customer waits", "decision": "hold"}


def test_a_retry_is_the_same_override_and_another_run_is_another_one(ledger):
    for run_id in ("run_1", "run_1", "run_2"):
        override(ledger, HOLD, "anna", "the customer waits", {**RUN, "run_id": run_id})
    assert [record["run_id"] for record in ledger.records()] == ["run_1", "run_2"]
