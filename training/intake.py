"""Read what is new in a source, and say which snapshot it makes. Nothing of it is in the store yet."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.assemble import assemble, objects_of, selection_of
from training.batch import batch_key, listed, read_batch
from training.checks import CHECKS
from training.contract import LONGEST_WINDOW_DAYS, BadInput, IngestRequest
from training.findings import Finding
from training.forgotten import Forgotten
from training.layout import BATCHES, is_damage, is_readable
from training.personal import check_region
from training.refusal import BatchRefused, why_refused
from training.snapshot import Snapshot, read_manifest
from training.store import MANIFEST, Store
from training.text import counted
from training.waiting import Waiting, compare
from training.watermark import Watermark, reads_of

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)

SHOWN_LABELS = 20


@dataclass(frozen=True)
class Ingested:
    """A snapshot, and nothing of it in the store yet but what was there before."""

    snapshot: Snapshot
    watermark: Watermark
    dropped: Mapping[str, int]
    examples: Sequence[Mapping[str, Any]]
    waiting: Waiting
    batch: Mapping[str, Any] | None  # manifest of the new one
    rows: pyarrow.Table | None = None  # h0, h1, split and label of all of them, unless there are many
    quarantined: str | None = None
    findings: Sequence[Finding] = ()
    test_changes: Sequence[Mapping[str, Any]] = ()  # rows that were deleted from the test split or corrected
    lengths: Mapping[str, Any] | None = None  # of the new texts, in tokens: training.token_lengths
    last: str | None = None  # digest of the snapshot that was in force before


def read(request: IngestRequest, scratch: Path) -> Ingested:
    """
    Read what is new and decide which rows the snapshot keeps. Writes to ``scratch`` alone.

    :param scratch: gets ``batch`` and ``watermark``, each as it belongs into the store.
    :raises BadInput: as ``ingest``.
    """
    _check(request)
    store, checks = Store(request.store), request.checks
    before = _known(request, store)
    forgotten = Forgotten.in_force(store)
    fresh = request.force or before.reads != reads_of(request.reading, checks)
    waiting = compare(request.reading, before, checks.removed, fresh=fresh, forgotten=forgotten.objects)
    nothing_new = not (
        fresh or before.unsettled or waiting.unread or waiting.gone
    ) and before.selection == selection_of(request)
    if nothing_new and (same := _as_before(store, before, waiting)):
        return same
    import duckdb

    (scratch / "watermark").mkdir()
    batch = _take_in(request, store, waiting, scratch, forgotten) if waiting.unread else None
    try:
        if waiting.emptied and checks.removed == "drop":
            raise BatchRefused(
                f"{waiting.emptied[0]} holds no object any more, and all its rows would go. If that is meant, name "
                "another source; where objects leave once they are read, checks.removed: keep"
            )
        if batch is not None and (reason := why_refused(checks, batch)):
            raise BatchRefused(reason)
        found = assemble(request, store, before, waiting, batch, scratch, fresh=fresh)
    except duckdb.Error as error:
        if not is_damage(error):
            raise
        raise BadInput(
            f"What was read before is damaged ({str(error).splitlines()[0]}). No snapshot was made. Start a run that "
            "recomputes: it reads every object again."
        ) from error
    except BatchRefused as refused:
        return _last_good(request, store, before, waiting, batch, refused)
    _tell(found.snapshot, found.dropped)
    _check_usable(found.snapshot, found.dropped, request)
    return Ingested(
        found.snapshot,
        found.watermark,
        found.dropped,
        found.examples,
        waiting,
        batch,
        found.rows,
        findings=found.findings,
        test_changes=found.test_changes,
        lengths=found.lengths,
        last=before.snapshot,
    )


def _known(request: IngestRequest, store: Store) -> Watermark:
    """
    :return: what was read before; for a run that recomputes, as much of it as is whole.
    :raises BadInput: it is damaged, and the run does not recompute.
    """
    try:
        before = Watermark.load(store, request.watermark)
    except BadInput as error:
        if not request.force:
            raise
        log.warning("%s Which texts were in an earlier test split is not known any more.", error)
        return Watermark()
    damaged = [one for one in before.batches if request.force and not is_readable(store, one)]
    if not damaged:
        return before
    log.warning(
        "damaged, and passed over: %s. Which texts of them were in an earlier test split is not known any more.",
        ", ".join(store.uri(f"{BATCHES}/{one['key']}") for one in damaged),
    )
    numbers = {one["number"] for one in damaged}
    return replace(
        before,
        batches=[one for one in before.batches if one["number"] not in numbers],
        objects=[one for one in before.objects if one.batch not in numbers],
    )


def is_whole(store: Store, key: str) -> bool:
    """:param key: of a snapshot. :return: whether it is there, with a manifest that can be read."""
    try:
        return store.is_complete(key) and bool(read_manifest(store, key))
    except BadInput:
        return False


def _as_before(store: Store, before: Watermark, waiting: Waiting) -> Ingested | None:
    """:return: the snapshot that is in force, when it is whole."""
    if before.snapshot is None or not is_whole(store, f"snapshots/{before.snapshot}"):
        return None
    if not all(store.exists(f"{BATCHES}/{one['key']}/{file}") for one in before.batches for file in one["files"]):
        return None  # a closer look says which, and what to do
    manifest = read_manifest(store, f"snapshots/{before.snapshot}")
    return Ingested(
        Snapshot.load(manifest), before, manifest["dropped"], manifest["examples"], waiting, None, last=before.snapshot
    )


def _take_in(
    request: IngestRequest, store: Store, waiting: Waiting, scratch: Path, forgotten: Forgotten
) -> dict[str, Any]:
    """:return: the manifest of the batch, which is in the store already or in ``scratch`` now."""
    percents = (waiting.settings["test_percent"] or 0, waiting.settings["validation_percent"] or 0)
    key = batch_key(waiting.unread, request.reading, percents, request.checks)
    if not request.force and store.is_complete(f"{BATCHES}/{key}"):
        log.info("%d objects were read before, into batch %s", len(waiting.unread), key[:8])
        return store.read_json(f"{BATCHES}/{key}/{MANIFEST}")
    (scratch / "batch").mkdir()
    return read_batch(scratch / "batch", key, waiting.unread, request.reading, percents, request.checks, forgotten)


def _last_good(
    request: IngestRequest,
    store: Store,
    before: Watermark,
    waiting: Waiting,
    batch: Mapping[str, Any] | None,
    refused: BatchRefused,
) -> Ingested:
    """
    Set what is new aside, also that objects are gone, and stay with the snapshot there is.

    :raises BadInput: there is none.
    """
    reason = str(refused).rstrip(".")
    if before.snapshot is None or not store.is_complete(f"snapshots/{before.snapshot}"):
        raise BadInput(
            f"{request.reading.source}: {reason}. There is no earlier snapshot to stay with; nothing was written. "
            "Check format, encoding and columns; a row needs one text and one label."
        )
    manifest = read_manifest(store, f"snapshots/{before.snapshot}")
    aside = objects_of(batch, "quarantined") if batch else []
    # What an object had before it changed stays in force, and is known to go once the object is taken in
    missed = {(one.name, one.split) for one in waiting.gone} - {(one.name, one.split) for one in aside}
    objects = [replace(one, state="missed") if (one.name, one.split) in missed else one for one in before.in_force()]
    watermark = replace(before, objects=[*objects, *aside])
    if batch:
        kept = store.uri(f"{BATCHES}/{batch['key']}")
        count = counted(len(aside), "new object")
        told = f"{count} set aside: {reason}. The rows are in {kept}; a mended object is read again"
    else:
        told = f"no new snapshot was made: {reason}. It is tried again in each run"
    log.warning("%s", told)
    counts = {**waiting.counts, "quarantined": len(aside)}
    return Ingested(
        Snapshot.load(manifest),
        watermark,
        manifest["dropped"],
        manifest["examples"],
        replace(waiting, counts=counts),
        batch,
        quarantined=told,
        findings=refused.findings,
        last=before.snapshot,
    )


def _check(request: IngestRequest) -> None:
    if request.reading.text == request.reading.label:
        raise BadInput(f"text and label are the same column {request.reading.text!r}. Name two.")
    columns = [name.casefold() for name in (request.reading.text, request.reading.label, request.reading.time) if name]
    for name in request.reading.keep:
        if not name or name.casefold() in columns:
            raise BadInput(
                f"keep: {name!r} is the text, the label or the time, or is named twice; upper and lower case are the "
                "same. Nothing was read. Name other columns, each once."
            )
        columns.append(name.casefold())
    for name in ("test_percent", "validation_percent"):
        if not 0 <= getattr(request.reading, name) < 100:
            raise BadInput(f"{name} is {getattr(request.reading, name)}; it must be from 0 to 99.")
    if request.reading.test_percent + request.reading.validation_percent >= 100:
        raise BadInput(
            "test_percent and validation_percent leave nothing to train on; together they must be below 100."
        )
    if (days := request.checks.window_days) is not None and not 0 < days <= LONGEST_WINDOW_DAYS:
        raise BadInput(f"window_days is {days}; it must be from 1 to {LONGEST_WINDOW_DAYS:,}, or left out.")
    for check, wanted in request.checks.policies.items():
        if check not in CHECKS or wanted not in {CHECKS[check].default, *CHECKS[check].policies}:
            raise BadInput(f"checks.{check}: {wanted!r} is none of the policies in docs/spec.md. Nothing was read.")
    for name, most in (("max_rows_per_label", request.checks.max_rows_per_label), ("max_rows", request.max_rows)):
        if most is not None and most < 1:
            raise BadInput(f"{name} is {most}; it must be at least 1, or left out.")
    check_region(request.checks.phone_region)


def _tell(snapshot: Snapshot, dropped: Mapping[str, int]) -> None:
    log.info("splits: %s", ", ".join(f"{split} {count:,}" for split, count in snapshot.counts.items()))
    trained = Counter(snapshot.label_counts["train"])
    more = f", and {len(trained) - SHOWN_LABELS} more" if len(trained) > SHOWN_LABELS else ""
    shown = ", ".join(f"{label} {count:,}" for label, count in trained.most_common(SHOWN_LABELS))
    log.info("%d labels, training rows each: %s%s", len(trained), shown, more)
    if dropped:
        log.info("dropped altogether: %s", listed(Counter(dropped)))


def _check_usable(snapshot: Snapshot, dropped: Mapping[str, int], request: IngestRequest) -> None:
    """:raises BadInput: nothing can be learnt or measured with these rows."""
    total = sum(snapshot.counts.values())
    empty = [split for split, count in snapshot.counts.items() if not count]
    left_out = f" Left out: {listed(Counter(dropped))}." if dropped else ""
    if len(snapshot.labels) == 1:
        raise BadInput(
            f"{request.reading.source}: every training row has the label {snapshot.labels[0]!r} ({total:,} rows); a "
            f"classifier needs two.{left_out} Check the label column {request.reading.label!r}. Nothing was written."
        )
    if empty:
        percents = {
            "test": request.reading.test_percent,
            "validation": request.reading.validation_percent,
            "train": None,
        }
        cut = ", ".join(
            f"{split}_percent {percents[split]}"
            for split in empty
            if total and snapshot.settings.get(f"{split}_percent") is not None
        )
        raise BadInput(
            f"{request.reading.source}: no row for {' and '.join(empty)} among {total:,} usable rows"
            f"{f' (cut by the hash of the text, {cut})' if cut else ''}.{left_out} Nothing was written. "
            f"Give more rows{', raise the percentage' if cut else ''}, or name a source for the split with other texts."
        )
