"""
Read what is new in a source into an immutable snapshot.

What was read before is known from the watermark and is not read again: an object with the same name and version. The
rows of new objects become a batch, and a snapshot is a selection of the rows of batches. The same data gives the same
snapshot, in whatever order and however often it was read.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.assemble import COMPARED_ROWS
from training.contract import SPLITS, IngestRequest, IngestResult
from training.data_report import describe, put_report, report_key
from training.forgotten import Forgotten
from training.intake import Ingested, is_whole, read
from training.keys import Records, explain, key_of
from training.layout import BATCHES
from training.signatures import SIGNATURES
from training.snapshot import read_manifest, read_table
from training.store import MANIFEST, Store
from training.text import counted

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)


def ingest(request: IngestRequest) -> IngestResult:
    """
    Put a snapshot of the data into the store, unless the same data is there already. Safe to retry.

    :raises BadInput: the data cannot be used; no snapshot was made.
    """
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    with store.scratch("ingest-") as scratch:
        found = read(request, scratch)
        snapshot = found.snapshot
        hit, why, key, parts = hit_or_miss(request, store, found)
        log.info("%s", why)
        with forgotten.while_writing(store):
            report = _write(request, store, found, scratch, hit=hit)
    result = IngestResult(
        key=key,
        hit=hit,
        why=why,
        snapshot=store.uri(snapshot.key),
        digest=snapshot.digest,
        rows=snapshot.counts,
        labels=snapshot.labels,
        dropped=dict(found.dropped),
        source=dict(found.waiting.source),
        watermark=store.uri(found.watermark.key),
        objects=dict(found.waiting.counts),
        quarantined=found.quarantined,
        warnings=[one.sentence for one in found.findings],
        test_split=None if found.watermark.test_split is None else dict(found.watermark.test_split),
        report=report,
    )
    records = Records(store, "ingest")
    if hit and records.find(key) is not None:
        records.note_last(key, parts, request.pipeline)
    else:
        records.write(key, parts, {"snapshot": result.snapshot, "digest": snapshot.digest}, request.pipeline)
    return result


def _write(request: IngestRequest, store: Store, found: Ingested, scratch: Path, *, hit: bool) -> str | None:
    """:return: URI of the report. The snapshot's manifest comes last."""
    if found.batch is not None and (scratch / "batch").is_dir():
        place = f"{BATCHES}/{found.batch['key']}"
        # Also where a run beside this one was faster: it has the same rows in files of other names, so both are whole.
        store.put_directory(scratch / "batch", place, found.batch, overwrite=True, move=True)
    for made in sorted((scratch / SIGNATURES).iterdir()) if (scratch / SIGNATURES).is_dir() else ():
        store.put_directory(made, f"{SIGNATURES}/{made.name}", {}, overwrite=request.force, move=True)
    watermark = found.watermark
    if not store.is_complete(watermark.key) or request.force:
        store.put_directory(
            scratch / "watermark", watermark.key, watermark.to_json(), overwrite=request.force, move=True
        )
    report = _report(request, store, found, hit=hit)
    # objects that add no row, but some that are left out, are told of in the same snapshot
    is_told = found.quarantined or (hit and read_manifest(store, found.snapshot.key)["dropped"] == found.dropped)
    if not is_told:
        log.info("writing %s", store.uri(found.snapshot.key))
        described = {
            "dropped": found.dropped,
            "examples": found.examples,
            "source": found.waiting.source,
            "watermark": store.uri(watermark.key),
            "report": report,
        }
        found.snapshot.put(store, described)
    return report


def _report(request: IngestRequest, store: Store, found: Ingested, *, hit: bool) -> str | None:
    """:return: URI of the report on what is new; where nothing is, of the one that came with the snapshot."""
    same = found.batch is None and not found.waiting.gone and found.snapshot.digest == found.last
    if hit and same:
        told = read_manifest(store, found.snapshot.key).get("report")
        if told is None or _is_about(store, told, request.pipeline):
            return told
        first = report_key(request, replace(found, last=None))  # another pipeline took in the same rows before this one
        if store.is_complete(first):
            return store.uri(first)
    key = report_key(request, found)
    if store.is_complete(key) and not request.force:
        return store.uri(key)
    return put_report(store, key, describe(request, store, found))


def _is_about(store: Store, report: str, pipeline: str) -> bool:
    try:
        return store.read_json(f"{store.key(report)}/{MANIFEST}")["pipeline"] == pipeline
    except (OSError, ValueError):
        return False


def hit_or_miss(request: IngestRequest, store: Store, found: Ingested) -> tuple[bool, str, str, dict[str, Any]]:
    """:return: whether the snapshot is there already, why or why not, its key, and the parts of the key."""
    snapshot = found.snapshot
    parts = {"snapshot": snapshot.digest, "rows": snapshot.counts, "settings": snapshot.settings}
    key = key_of(parts)
    records = Records(store, "ingest")
    last = records.last_parts(request.pipeline)
    complete = is_whole(store, snapshot.key) and not read_manifest(store, snapshot.key).get("forgotten")
    size = f"{sum(snapshot.counts.values()):,} rows, digest {snapshot.digest[:8]}"
    if found.quarantined:
        return True, f"hit: the last good snapshot stays in force: {size}; {found.quarantined}", key, parts
    if request.force:
        return False, "forced", key, parts
    if complete and last is not None and last["snapshot"] == snapshot.digest:
        return True, f"hit: source unchanged since {_day(records.made(key))}: {size}", key, parts
    if complete:
        return True, f"hit: the same rows were taken in on {_day(records.made(key))}: {size}", key, parts
    if last is None:
        return False, "miss: first run", key, parts
    if last["snapshot"] == snapshot.digest:
        return False, f"miss: snapshot {snapshot.digest[:8]} is gone or unfinished; made again", key, parts
    return False, f"miss: {_changes(store, last, found)} since snapshot {last['snapshot'][:8]}", key, parts


def _day(made: str | None) -> str:
    return made[:10] if made else "an unknown date"


def _changes(store: Store, last: dict[str, Any], found: Ingested) -> str:
    phrases = explain(last["settings"], found.snapshot.settings)
    phrases += [
        f"{counted(count, f'{what} object')}"
        for what, count in found.waiting.counts.items()
        if count and what != "unchanged"
    ]
    before, after = sum(last["rows"].values()), sum(found.snapshot.counts.values())
    key = f"snapshots/{last['snapshot']}"
    if found.rows is None or before > COMPARED_ROWS or not is_whole(store, key):
        difference = after - before
        return "; ".join([*phrases, f"{counted(abs(difference), 'row')} {'fewer' if difference < 0 else 'more'}"])
    counts = _compared(read_table(store, key, *SPLITS, columns="h0, h1, split, label"), found.rows)
    # the last snapshot has lost them already
    counts["forgotten"] = read_manifest(store, key).get("forgotten", 0)
    return "; ".join([*phrases, *(f"{counted(count, 'row')} {what}" for what, count in counts.items() if count)])


def _compared(old: pyarrow.Table, new: pyarrow.Table) -> dict[str, int]:
    """:param old: h0, h1, split and label, as ``new``."""
    import duckdb

    with duckdb.connect() as db:
        db.register("old_rows", old)
        db.register("new_rows", new)
        counts = db.execute(
            "SELECT count(*) FILTER (o.h0 IS NULL), count(*) FILTER (n.h0 IS NULL), "
            "count(*) FILTER (o.label <> n.label), count(*) FILTER (o.split <> n.split) "
            "FROM old_rows o FULL JOIN new_rows n USING (h0, h1)"
        ).fetchone()
    assert counts is not None
    return dict(zip(("added", "removed", "with another label", "in another split"), counts, strict=True))
