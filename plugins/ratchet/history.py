"""Tell what became of every version of a pipeline: MLflow knows the versions, the ledger what was done with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ratchet.alias import ROLLBACK, barred
from ratchet.ledger import (
    ALIAS_BY_HAND,
    ALIAS_DONE,
    ALIAS_DROPPED,
    ALIAS_INTENT,
    INGESTED,
    JUDGED,
    OVERRIDDEN,
    Ledger,
    Record,
)
from training.tags import ENDPOINT_TAG, IMPORTED_TAG, MODEL_TAG, RELEASE_TAG, SNAPSHOT_TAG, VERDICT_TAG

if TYPE_CHECKING:
    from ratchet.hooks.model_registry import ListedVersion, ModelRegistryHook

TEST = "test_"  # before the names of the metrics on the test split, in MLflow


@dataclass(frozen=True)
class Happening:
    """Something that was done with a version."""

    time: str  # ISO 8601, UTC
    what: str  # a few words
    who: str | None = None
    why: str | None = None
    run_id: str | None = None  # of Airflow


@dataclass(frozen=True)
class Entry:
    """One version of a pipeline's model."""

    version: str
    aliases: tuple[str, ...]
    made: str | None  # ISO 8601, UTC
    verdict: str | None
    metrics: dict[str, float]  # on the test split
    snapshot: str | None  # digest; None: it was not trained here
    imported: str | None  # where it is from, if it was not trained here
    rows: dict[str, int] | None  # by split
    model_digest: str | None
    release: str | None  # digest; None: it was never promoted
    endpoint: str | None
    run_id: str | None  # of MLflow
    barred: str | None  # why the gate does not promote it again
    happenings: list[Happening] = field(default_factory=list)  # oldest first

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def history(registry: ModelRegistryHook, ledger: Ledger, pipeline: str) -> list[Entry]:
    """
    Two searches in MLflow, whatever the number of versions, and the ledger.

    :return: every version that MLflow has, newest first.
    """
    versions = registry.list_versions(pipeline)
    metrics = registry.run_metrics(f"ratchet/{pipeline}") if versions else {}
    records = ledger.records()
    rows = {record["digest"]: record["rows"] for record in records if record["event"] == INGESTED}
    bars = barred(ledger)
    return [
        Entry(
            version=one.version,
            aliases=one.aliases,
            made=one.made.isoformat(timespec="seconds") if one.made else None,
            verdict=one.tags.get(VERDICT_TAG),
            metrics=_test_metrics(metrics.get(one.run_id or "", {})),
            snapshot=one.tags.get(SNAPSHOT_TAG),
            imported=one.tags.get(IMPORTED_TAG),
            rows=rows.get(one.tags.get(SNAPSHOT_TAG)),
            model_digest=one.tags.get(MODEL_TAG),
            release=one.tags.get(RELEASE_TAG),
            endpoint=one.tags.get(ENDPOINT_TAG),
            run_id=one.run_id,
            barred=bars[digest]["why"] if (digest := one.tags.get(MODEL_TAG)) in bars else None,
            happenings=[_happening(record) for record in records if _is_about(record, one)],
        )
        for one in versions
    ]


def _test_metrics(metrics: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix(TEST): value for name, value in sorted(metrics.items()) if name.startswith(TEST)}


def _is_about(record: Record, version: ListedVersion) -> bool:
    """:return: whether it tells of this version and of more than a tag or the end of a move does."""
    about = version.version in (record.get("to"), record.get("version"))
    return (
        about and record["event"] != ALIAS_INTENT and not (record["event"] == JUDGED and record["decision"] != "hold")
    )


def _happening(record: Record) -> Happening:
    return Happening(record["time"], _what(record), record.get("who"), record.get("why"), record.get("run_id"))


def _what(record: Record) -> str:
    event, before = record["event"], record.get("from")
    if event == ALIAS_DONE and record.get("kind") == ROLLBACK:
        return f"returned to from version {before}"
    if event in (ALIAS_DONE, ALIAS_BY_HAND):
        how = "promoted" if event == ALIAS_DONE else "made champion by hand"
        return f"{how} after version {before}" if before else how
    if event == JUDGED:
        return "held"
    if event == OVERRIDDEN:
        return f"let through against the gate's {record['decision']}"
    if event == ALIAS_DROPPED:
        return "was to become champion, which was broken off"
    return event.replace("-", " ")
