"""
Decide whether the data that waits is worth a run: is it enough, has it come to rest, was a run asked for already?

A decision takes what a survey found and what the ledger remembers, and nothing else, so that a trigger that was killed
goes on where it was. The ledger's records since the pipeline last took in data:

- ``waiting`` ``{state, reason, digest, rows, objects, since}``: what was seen, and why no run starts yet
- ``asked`` ``{digest, rows, objects}``: a run was asked for; the data still waits until that run has read it
- ``held-off`` ``{run_id, reason, until}``: a run came too early and read nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ratchet.ledger import HELD_OFF, INGESTED, Ledger, Record
from training.contract import SurveyResult

WAITING, ASKED = "waiting", "asked"

# A run that was asked for and reads nothing was lost, or fails: it is asked for again, each time after twice as long.
ASK_AGAIN = timedelta(minutes=15)  # assumed: longer than a run waits for a free worker
ASK_AGAIN_AT_MOST = timedelta(hours=24)

State = Literal["nothing", "few", "unsettled", "held-off", "asked", "due"]


@dataclass(frozen=True)
class Patience:
    """How much there must be, and how long it must have been left alone."""

    min_rows: int
    quiet: timedelta


@dataclass(frozen=True)
class Decision:
    state: State
    reason: str  # a sentence for people; it does not change from one look to the next while nothing else does
    until: datetime | None = None  # when the state changes though nothing else does


@dataclass(frozen=True)
class TooEarly:
    """A run that takes in data now would come too soon after another one."""

    run_id: str  # of the other
    until: datetime
    reason: str


def too_early(ledger: Ledger, cooldown: timedelta | None, now: datetime) -> TooEarly | None:
    # a batch that was refused took nothing in: its mended objects need not wait
    last = ledger.last(INGESTED, quarantined=None) if cooldown else None
    if last is None or cooldown is None:
        return None
    until = datetime.fromisoformat(last["time"]) + cooldown
    if until <= now:
        return None
    minutes = cooldown.total_seconds() / 60
    pause = f"{minutes:g} minutes" if minutes < 120 else f"{minutes / 60:g} hours"
    reason = f"run {last['run_id']} took in data at {minute(last['time'])}, and {pause} must lie between two"
    return TooEarly(last["run_id"], until, reason)


def minute(time: str) -> str:
    """:param time: ISO 8601. :return: as people read it."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def weight(found: SurveyResult) -> int:
    """:return: what is compared with ``min_rows``: rows, and one for an object whose rows are only to go."""
    return found.rows + found.emptied


def is_enough(found: SurveyResult, min_rows: int) -> bool:
    """:return: whether a run is worth it. A broken object is: the run names it where people look, or quarantines it."""
    return weight(found) >= min_rows or found.broken > 0


def decide(
    found: SurveyResult, since: datetime, history: Sequence[Record], patience: Patience, now: datetime
) -> Decision:
    """
    :param since: when this very data was first seen.
    :param history: the ledger's records since the last ``ingested``.
    :return: state ``due`` when a run is to be asked for, otherwise why not.
    """
    if not found.digest:
        return Decision("nothing", "nothing new")
    if not is_enough(found, patience.min_rows):
        return Decision("few", f"{weight(found):,} of {patience.min_rows:,} rows that start a run")
    if (settled := _settles(found, since, now) + patience.quiet) > now:
        quiet = f"{patience.quiet.total_seconds() / 60:g} minutes"
        return Decision("unsettled", f"not left unchanged for {quiet} yet", settled)
    held = next((record for record in reversed(history) if record["event"] == HELD_OFF), None)
    if held is not None and (end := _time(held["until"])) > now:
        return Decision("held-off", f"no run before {end:%Y-%m-%d %H:%M:%S} UTC: {held['reason']}", end)
    asked = [
        record
        for record in history
        if record["event"] == ASKED
        and record["digest"] == found.digest
        and (held is None or record["number"] > held["number"])  # what a hold answered was not lost
    ]
    if asked:
        pause = min(ASK_AGAIN * 2 ** min(len(asked) - 1, 10), ASK_AGAIN_AT_MOST)
        if (again := _time(asked[-1]["time"]) + pause) > now:
            return Decision("asked", "a run was asked for and has not read it yet", again)
    return Decision("due", "a run is asked for")


def _settles(found: SurveyResult, since: datetime, now: datetime) -> datetime:
    """:return: since when nothing has changed, by our own observation and by the objects' dates."""
    newest = _time(found.newest) if found.newest else since
    return since if newest > now else max(since, newest)  # a date in the future is a clock that is wrong


def seen_since(digest: str, history: Sequence[Record]) -> datetime | None:
    """:return: since when the last ``waiting`` record saw this very data; None: it saw other data, or there is none."""
    last = last_waiting(history)
    return _time(last["since"]) if last is not None and last["digest"] == digest else None


def last_waiting(history: Sequence[Record]) -> Record | None:
    return next((record for record in reversed(history) if record["event"] == WAITING), None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
