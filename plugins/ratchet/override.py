"""Promote against the gate, because a person says so, and keep for ever who and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratchet.judged import candidate_of
from ratchet.ledger import OVERRIDDEN

if TYPE_CHECKING:
    from ratchet.ledger import Ledger, Record


def override(ledger: Ledger, verdict: Mapping[str, Any], who: str, why: str, run: Record) -> dict[str, Any]:
    """
    Write the override down. Safe to repeat.

    A bar on the weights is lifted when they are promoted, so that an override that came to nothing lifts none.

    :param verdict: one that does not promote, about a candidate that there is.
    :param run: ``dag_id`` and ``run_id`` of the run that overrides.
    :return: the verdict that promotes it.
    """
    decision = verdict["decision"]
    if ledger.last(OVERRIDDEN, verdict=verdict["key"], **run) is None:
        ledger.append(
            OVERRIDDEN,
            **candidate_of(verdict),
            verdict=verdict["key"],
            decision=decision,
            rules=[rule["name"] for rule in verdict["rules"] if rule["outcome"] != "pass"],
            who=who,
            why=why,
            **run,
        )
    return {
        **verdict,
        "decision": "promote",
        "reasons": [f"overridden by {who}: {why}; the gate said {decision}", *verdict["reasons"]],
        "raises_mark": True,  # what a person wants instead is the mark from now on, also where it is lower
        "overridden": {"who": who, "why": why, "decision": decision},
    }
