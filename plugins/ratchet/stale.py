"""Tell whether a pipeline has stopped shipping: green runs whose candidates are all held, or a champion that is old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from ratchet.ledger import ALIAS_DONE, BARRED, JUDGED

if TYPE_CHECKING:
    from ratchet.ledger import Ledger


def stale(ledger: Ledger, holds: int | None, days: float | None) -> Iterator[str]:
    """
    Yield what is wrong, a sentence each.

    :param holds: held candidates in a row from which on it is said; None: never.
    :param days: age of the champion from which on it is said; None: never.
    """
    count = holds_in_a_row(ledger)
    if holds is not None and count >= holds:
        yield f"{count} candidates in a row were held or rejected"
    age = champion_days(ledger)
    if days is not None and age is not None and age >= days:
        yield f"the champion is {age:.0f} days old"


def holds_in_a_row(ledger: Ledger) -> int:
    """:return: verdicts that held, and rejections, since a candidate last passed or the champion last changed."""
    count = 0
    for record in ledger.since(ALIAS_DONE):
        if record["event"] == JUDGED and record["decision"] == "promote":
            count = 0
        elif (record["event"] == JUDGED and record["decision"] == "hold") or _is_rejection(record):
            count += 1
    return count


def champion_days(ledger: Ledger) -> float | None:
    """:return: how long the champion has been one, days; None: there is none."""
    done = ledger.last(ALIAS_DONE)
    return (ledger.now() - datetime.fromisoformat(done["time"])).total_seconds() / 86400 if done else None


def _is_rejection(record: dict) -> bool:
    return record["event"] == BARRED and "answer" in record
