"""Tell people, once, of a candidate that is held, and of a pipeline that has stopped shipping."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ratchet.ledger import ALIAS_DONE, BARRED, JUDGED, TOLD
from ratchet.notify import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from ratchet.ledger import Ledger
    from ratchet.notify import Notifications

STALE = "nothing new is shipped"


def tell_held(
    notify: Notifications,
    context: Context,
    ledger: Ledger,
    verdict: Mapping[str, Any],
    what: str,
    holds: int | None,
    days: float | None,
) -> None:
    """
    Tell of a candidate that was held or rejected, and that the pipeline is stale if it is by now.

    A verdict that is repeated, by a retry or by a run that has nothing new, was told of before.

    :param what: happened, in a few words. For ``holds`` and ``days`` see ``stale``.
    """
    told = {"about": "hold", "verdict": verdict["key"]}
    if not notify or ledger.last(TOLD, **told) is not None:
        return
    report = verdict.get("report_url")
    tell(notify, context, "hold", ledger.pipeline, what, reasons=verdict["reasons"], report_url=report)
    if reasons := list(stale(ledger, holds, days)):
        tell(notify, context, "stale", ledger.pipeline, STALE, reasons=reasons, report_url=report)
    ledger.append(TOLD, **told)


def tell_old(notify: Notifications, context: Context, ledger: Ledger, days: float | None) -> None:
    """
    Tell of a champion that has become so many days old, and again whenever it is as many days older.

    :param days: None: never.
    """
    age, promoted = champion_days(ledger), ledger.last(ALIAS_DONE)
    if not notify or days is None or age is None or promoted is None or age < days:
        return
    told = {"about": "age", "since": promoted["number"], "times": int(age // days)}
    if ledger.last(TOLD, **told) is None:
        tell(notify, context, "stale", ledger.pipeline, STALE, reasons=stale(ledger, None, days))
        ledger.append(TOLD, **told)


def stale(ledger: Ledger, holds: int | None, days: float | None) -> Iterator[str]:
    """
    Yield what is wrong, a sentence each.

    :param holds: held candidates in a row from which on it is said; None: never.
    :param days: age of the champion from which on it is said; None: never.
    """
    count = holds_in_a_row(ledger)
    if holds is not None and count >= holds:
        yield (
            f"{count} candidates in a row were held or rejected" if count > 1 else "the last candidate was not promoted"
        )
    age = champion_days(ledger)
    if days is not None and age is not None and age >= days:
        yield f"the champion is {age:.0f} days old"


def holds_in_a_row(ledger: Ledger) -> int:
    """:return: candidates that were held or rejected since one last passed or the champion last changed."""
    stopped: set[str | int] = set()  # digests
    for record in ledger.since(ALIAS_DONE):
        if record["event"] == JUDGED and record["decision"] == "promote":
            stopped.clear()
        elif (record["event"] == JUDGED and record["decision"] == "hold") or _is_rejection(record):
            # the same candidate is held night after night where nothing is new; without one there is nothing to compare
            stopped.add(record.get("model_digest") or record["number"])
    return len(stopped)


def champion_days(ledger: Ledger) -> float | None:
    """:return: how long the champion has been one, days; None: there is none."""
    done = ledger.last(ALIAS_DONE)
    return (ledger.now() - datetime.fromisoformat(done["time"])).total_seconds() / 86400 if done else None


def _is_rejection(record: dict) -> bool:
    return record["event"] == BARRED and "answer" in record
