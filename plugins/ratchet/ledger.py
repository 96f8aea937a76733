"""Remember what changed over time: numbered records in the store, created once and never rewritten."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from training.contract import BadInput

if TYPE_CHECKING:
    from training.store import Store

ATTEMPTS = 100  # writers that beat us to a number, one after the other

Record = dict[str, Any]

# The events that more than their writer looks for
# snapshot, digest, watermark, run_id, rows, objects, quarantined, test_split, report: data was taken in
INGESTED = "ingested"
FORGET = "forget"  # objects, texts (how many), reason, who: they are about to be taken out; never a text
FORGET_REFUSED = "forget-refused"  # error: nothing was taken out
FORGOTTEN = "forgotten"  # who, counts, versions, unknown, in_source, left: they are, and what could not be reached
HELD_OFF = "held-off"  # run_id, reason, until: a run came too early and took nothing in
# model, from, to, kind, verdict, who, why, dag_id, run_id, endpoint, release, model_digest: the alias is about to move
ALIAS_INTENT = "alias-intent"
ALIAS_DONE = "alias-done"  # the same: it has moved
ALIAS_DROPPED = "alias-dropped"  # the same, with who: an intent that came to nothing
ALIAS_BY_HAND = "alias-by-hand"  # model, from, to: somebody moved it without saying so here
ALIAS_EVENTS = (ALIAS_INTENT, ALIAS_DONE, ALIAS_DROPPED, ALIAS_BY_HAND)
ROLLBACK_BEGUN = "rollback-begun"  # model, from, to, who, why, dag_id, run_id: the endpoint is about to go back
REPAIRED = "repaired"  # who, found, done: ratchet reconcile put something right
BARRED = "barred"  # model, version, model_digest, who, why, run_id: the gate does not promote these weights again
BAR_LIFTED = "bar-lifted"  # the same: a person brought the version back
# the same, with verdict (its key) and answer: a person let a candidate through that the gate asked about; one that was
# rejected is barred, with verdict and answer as well
APPROVED = "approved"
# the same, with verdict, decision and rules (names of those that did not pass): a person forced a promotion
OVERRIDDEN = "overridden"
JUDGED = "judged"  # version, model_digest, decision, dag_id, run_id, why if held: not of the champion judged again
TOLD = "told"  # about, and verdict (its key) of a hold, or since and times of an old champion: nobody is told again


class Ledger:
    """
    The history of one pipeline, ``ledger/PIPELINE/NNNNNN.json``, oldest first.

    A record never changes, so one that was read is not read again by the same object.
    """

    def __init__(self, store: Store, pipeline: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.store, self.pipeline, self.prefix, self.now = store, pipeline, f"ledger/{pipeline}", now
        self._read: dict[str, Record] = {}

    def append(self, event: str, *, after: int | None = None, **values: Any) -> int:
        """
        Write one record; of two writers at once both succeed, one after the other.

        :param event: what happened, one of those above or another one.
        :param after: number of the last record that the writer knows of; None: whatever that is.
        :return: its number.
        :raises FileExistsError: somebody wrote a record since ``after``; nothing was written. Look again.
        """
        record = {"event": event, "time": self.now().isoformat(timespec="milliseconds"), **values}
        for _attempt in range(ATTEMPTS):
            number = (self.last_number() if after is None else after) + 1
            try:
                self.store.create_json(self._key(number), {"number": number, **record})
            except FileExistsError:
                if after is not None:
                    raise
                continue
            return number
        raise RuntimeError(
            f"{self.store.uri(self.prefix)}: no free number after {ATTEMPTS} attempts; nothing was written."
        )

    def records(self, event: str | None = None) -> list[Record]:
        return [record for record in reversed(list(self._newest_first())) if event is None or record["event"] == event]

    def last(self, *events: str, **values: Any) -> Record | None:
        """:return: the newest record of one of ``events`` that has these values; what is older is not read."""
        for record in self._newest_first():
            if record["event"] in events and values.items() <= record.items():
                return record
        return None

    def since(self, event: str) -> list[Record]:
        """:return: the newest record of ``event`` and all after it, oldest first; without one, all there are."""
        found = []
        for record in self._newest_first():
            found.append(record)
            if record["event"] == event:
                break
        return found[::-1]

    def last_number(self) -> int:
        """:return: 0 if there is no record."""
        keys = self.store.list(self.prefix)
        return _number(keys[-1]) if keys else 0

    def _newest_first(self) -> Iterator[Record]:
        for key in reversed(self.store.list(self.prefix)):
            if key not in self._read:
                self._read[key] = self.store.read_json(key)
            yield self._read[key]

    def _key(self, number: int) -> str:
        return f"{self.prefix}/{number:06d}.json"


def pipelines(store: Store) -> list[str]:
    """:return: names of all pipelines that have a history in the store."""
    return [place.rpartition("/")[2] for place in store.list("ledger")]


def require_known(store: Store, pipeline: str) -> None:
    """:raises BadInput: no pipeline of that name ever ran."""
    known = pipelines(store)
    if pipeline not in known:
        close = difflib.get_close_matches(pipeline, known, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise BadInput(
            f"No pipeline {pipeline!r} ever ran with the store {store.root}.{meant} Those that did: "
            f"{', '.join(known) or 'none'}."
        )


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[1].removesuffix(".json"))
