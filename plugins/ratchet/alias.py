"""
Move the alias ``champion``: under a lock the intent in the ledger, the alias, a second look, the word that it is done.

MLflow sets an alias whoever asks and remembers nothing, so the ledger says how it got where it is. A move that was
killed is finished by whoever moves next, and one that the ledger knows nothing of was made by hand: it is written down,
and nothing is moved over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ratchet.hooks.model_registry import CHAMPION, PREVIOUS
from ratchet.ledger import (
    ALIAS_BY_HAND,
    ALIAS_DONE,
    ALIAS_DROPPED,
    ALIAS_EVENTS,
    ALIAS_INTENT,
    BAR_LIFTED,
    BARRED,
    Ledger,
    Record,
)
from training.tags import ENDPOINT_TAG, MODEL_TAG, RELEASE_TAG

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelRegistryHook, ModelVersion

PROMOTION: Final = "promotion"
ROLLBACK: Final = "rollback"
OVERRIDE: Final = "override"  # the verdict of a move that a person forced
REPAIR: Final = "repair"  # ratchet reconcile brought the alias back to what serves
LOCK_SECONDS = 60  # the section under the lock takes about a second; a holder that died gave it up


class AliasMoved(Exception):
    """The alias names another version than it should: somebody else moved it. It was left there."""

    def __init__(self, found: str | None) -> None:
        super().__init__(found)
        self.found = found


class AliasBusy(RuntimeError):
    """Another machine is moving the alias. Nothing was moved; a retry finds how that ended."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """Why the alias moves, who has it moved, and what serves by then; the ledger keeps all of it."""

    kind: Literal["promotion", "rollback", "repair"]
    verdict: str | None  # the gate's decision, or that a person overrode it; of a rollback there is none
    who: str
    why: str
    dag_id: str
    run_id: str
    endpoint: str
    release: str  # digest
    model_digest: str
    raises_mark: bool = False  # by then it is the best version ever promoted: the next ones are held against it as well


@dataclass(frozen=True)
class Moved:
    previous: str | None  # the version that was champion before
    by_this_run: bool  # False: it was champion already


def who_started(context: Context) -> str:
    """:return: the user who started the run, or what did: ``scheduled``, ``asset_triggered``."""
    run = context["dag_run"]
    return run.triggering_user_name or str(getattr(run.run_type, "value", run.run_type))


class ChampionAlias:
    """
    The alias ``champion`` of one registered model, and ``previous`` with it.

    :param locks: local directory for the lock. Machines that do not share it see each other in the ledger.
    """

    def __init__(self, registry: ModelRegistryHook, ledger: Ledger, model: str, locks: Path) -> None:
        self.registry, self.ledger, self.model, self.lock = registry, ledger, model, locks / model

    def move(self, to: ModelVersion, expected: str | None, move: Move, check: Callable[[], None]) -> Moved:
        """
        Make ``to`` the champion. Safe to repeat.

        :param expected: the version that the alias must name before; None: no version.
        :param check: looks, under the lock, whether ``to`` really serves; raises if not.
        :raises AliasMoved: it names another version than ``expected``, or than ``to`` after it was set.
        :raises AliasBusy: another machine is at it, or has just been.
        """
        from training.keys import locked

        with locked(self.lock, wait_seconds=LOCK_SECONDS):
            check()
            found = self._settle(move.run_id)
            if found == to.version and not self._came_by_hand(expected, found):
                self._tag(to, move.release, move.endpoint)  # it may have been packaged anew
                return self._already(found, move)
            if found not in (expected, to.version):
                raise AliasMoved(found)
            record = {"model": self.model, "from": expected, "to": to.version, **asdict(move)}
            self._write_intent(record)
            self.registry.set_alias(to, CHAMPION)
            if (now := self.named()) != to.version:
                self._write_by_hand(to.version, now)
                raise AliasMoved(now)
            self.finish(record)
        return Moved(expected, by_this_run=True)

    def _came_by_hand(self, expected: str | None, found: str) -> bool:
        """:return: whether somebody was quicker than the move: all that follows from it is still to be done."""
        last = last_move(self.ledger)
        return found != expected and last is not None and last["event"] == ALIAS_BY_HAND

    def named(self) -> str | None:
        """:return: the version that the alias names."""
        found = self.registry.find_version(f"models:/{self.model}@{CHAMPION}")
        return found.version if found else None

    def settle(self, run_id: str | None = None) -> str | None:
        """
        Bring the ledger up to what the alias shows: a move that was killed is done or dropped, one by hand noted.

        :param run_id: of the run that asks, whose own move nobody else makes.
        :return: the version that the alias names.
        :raises AliasBusy: another machine said less than a minute ago that it moves the alias.
        """
        from training.keys import locked

        with locked(self.lock, wait_seconds=LOCK_SECONDS):
            return self._settle(run_id)

    def _settle(self, run_id: str | None) -> str | None:
        found, last = self.named(), last_move(self.ledger)
        if last is not None and last["event"] == ALIAS_INTENT:
            if last["run_id"] != run_id and is_fresh(self.ledger, last):
                raise AliasBusy(_busy(last))
            if found == last["to"]:
                self.finish(facts_of(last))
                return found
            self.ledger.append(ALIAS_DROPPED, **facts_of(last))
        if found != (known := champion_after(last)):
            self._write_by_hand(known, found)
        return found

    def finish(self, record: Record) -> None:
        """Do all that follows from a move whose alias is set, and say that it is done. Safe to repeat."""
        version = self.registry.find_version(f"models:/{self.model}/{record['to']}")
        if version is not None:
            self._tag(version, record["release"], record["endpoint"])
        self.set_previous(before(self.ledger, record))
        if record["kind"] == ROLLBACK:
            self._bar(record)
        if record["kind"] == ROLLBACK or record["verdict"] == OVERRIDE:
            self._lift_bar(record)
        self.ledger.append(ALIAS_DONE, **record)

    def set_previous(self, version: str | None) -> None:
        """Have the alias ``previous`` name this version; without one, or one that was deleted, there is none."""
        found = self.registry.find_version(f"models:/{self.model}/{version}") if version else None
        if found is not None:
            self.registry.set_alias(found, PREVIOUS)
        elif self.registry.find_version(f"models:/{self.model}@{PREVIOUS}") is not None:
            self.registry.remove_alias(self.model, PREVIOUS)

    def _tag(self, version: ModelVersion, release: str, endpoint: str) -> None:
        self.registry.tag_version(version, {RELEASE_TAG: release, ENDPOINT_TAG: endpoint})
        self.registry.end_challenge(version)

    def _already(self, version: str, move: Move) -> Moved:
        """The alias is there; by this very run, if its worker died and the task itself went on."""
        last = last_move(self.ledger)
        if last is None or last["event"] != ALIAS_DONE or last["to"] != version:
            return Moved(None, by_this_run=False)
        by_this_run = (last["dag_id"], last["run_id"]) == (move.dag_id, move.run_id)
        return Moved(last["from"] if by_this_run else None, by_this_run)

    def _write_intent(self, record: Record) -> None:
        """Only where nobody wrote since we looked: of two machines that mean to move, one does."""
        seen, last = self.ledger.last_number(), last_move(self.ledger)
        if last is not None and last["event"] == ALIAS_INTENT:
            raise AliasBusy(_busy(last))
        try:
            self.ledger.append(ALIAS_INTENT, after=seen, **record)
        except FileExistsError as error:
            raise AliasBusy(f"Somebody wrote to the ledger of {self.model} just now. Nothing was moved.") from error

    def _write_by_hand(self, known: str | None, found: str | None) -> None:
        record: Record = {"model": self.model, "from": known, "to": found}
        self.ledger.append(ALIAS_BY_HAND, **record)

    def _bar(self, record: Record) -> None:
        """The version that was left is not promoted again."""
        digest = self._digest_of(record["from"])
        if digest is not None and digest != record["model_digest"] and digest not in barred(self.ledger):
            self.ledger.append(BARRED, version=record["from"], model_digest=digest, **_told(record))

    def _lift_bar(self, record: Record) -> None:
        """The version that a person returned to, or forced, may be promoted again."""
        digest = record["model_digest"]
        if digest in barred(self.ledger):
            self.ledger.append(BAR_LIFTED, version=record["to"], model_digest=digest, **_told(record))

    def _digest_of(self, version: str | None) -> str | None:
        moved = self.ledger.last(ALIAS_DONE, to=version)
        if moved is not None and moved.get("model_digest"):
            return moved["model_digest"]
        found = self.registry.find_version(f"models:/{self.model}/{version}") if version else None
        return found.tags.get(MODEL_TAG) if found else None


def last_move(ledger: Ledger) -> Record | None:
    """:return: the newest record about the alias."""
    return ledger.last(*ALIAS_EVENTS)


def is_fresh(ledger: Ledger, record: Record) -> bool:
    """:return: whether who wrote it may still be at it."""
    age = ledger.now() - datetime.fromisoformat(record["time"])
    return age.total_seconds() < LOCK_SECONDS


def champion_after(last: Record | None) -> str | None:
    """:param last: the newest record about the alias. :return: the version that it should name, as far as that says."""
    if last is None:
        return None
    return last["to"] if last["event"] in (ALIAS_DONE, ALIAS_BY_HAND) else last["from"]


def before(ledger: Ledger, move: Record) -> str | None:
    """:return: the version to return to from the champion that ``move`` made: the one that it was promoted after."""
    if move["kind"] == PROMOTION:
        return move["from"]
    promoted = ledger.last(ALIAS_DONE, kind=PROMOTION, to=move["to"])
    if promoted is None and move["kind"] == REPAIR:  # it was made champion by hand
        return move["from"]
    return promoted["from"] if promoted else None


def barred(ledger: Ledger) -> dict[str, Record]:
    """:return: by model digest the record that says why these weights are not to be promoted again."""
    return _barred_by(ledger.records())


def _barred_by(records: Iterable[Record]) -> dict[str, Record]:
    bars: dict[str, Record] = {}
    for record in records:
        if record["event"] == BARRED:
            bars[record["model_digest"]] = record
        elif record["event"] == BAR_LIFTED:
            bars.pop(record["model_digest"], None)
    return bars


def mark(ledger: Ledger) -> str | None:
    """:return: the best version ever promoted, by the verdicts of their time; a barred one is no mark."""
    move = mark_after(ledger.records())
    return move["to"] if move else None


def mark_after(records: Sequence[Record]) -> Record | None:
    """:param records: of a ledger, from its first to any other. :return: the move that made the mark of that time."""
    bars = _barred_by(records)
    for record in reversed(records):
        raised = record["event"] == ALIAS_DONE and record.get("raises_mark")
        if raised and record.get("model_digest") not in bars:
            return record
    return None


def facts_of(record: Record) -> Record:
    """:return: a record without what makes it this one in the ledger, so that it can be written on."""
    return {name: value for name, value in record.items() if name not in ("number", "event", "time")}


def _told(move: Record) -> Record:
    """:return: of a move what the record of a bar has as well."""
    return {name: move[name] for name in ("model", "who", "why", "run_id")}


def _busy(intent: Record) -> str:
    return (
        f"The alias {CHAMPION!r} of {intent['model']} was to move from {intent['from']} to {intent['to']} since "
        f"{intent['time']}, by run {intent['run_id']}, and nobody said yet that it did. Nothing was moved. Try again "
        "in a minute."
    )
