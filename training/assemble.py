"""Select the rows of a snapshot from the batches that were read, the new one among them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.checks import policy_of
from training.contract import SPLITS, BadInput, IngestRequest, Split
from training.exam import next_version
from training.findings import Finding, enforce
from training.label_checks import check_labels
from training.layout import Batch, Layout, create_every, create_kept, create_table, database, parquet_files, quoted
from training.near_checks import REASONS, dropped_checks, look_for_near, near_findings
from training.personal_finding import find_personal_data, find_personal_labels
from training.reasons import EXAMPLES_PER_REASON
from training.refusal import BatchRefused, why_refused_beside_others
from training.settle import settle
from training.snapshot import Cell, Snapshot, read_manifest
from training.store import Store
from training.token_lengths import check_token_lengths
from training.waiting import Waiting
from training.watermark import ObjectRead, State, Watermark, reads_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow

log = logging.getLogger(__name__)

DELETIONS = "deletions.parquet"
# What says that the source or the labelling has changed is told before what is about single rows
FIRST = ("moved_share", "vanished_label", "new_label", "rare_label", "personal_data", "personal_label")
COMPARED_ROWS = 200_000  # assumed: below it, telling row by row what changed costs about a second


@dataclass(frozen=True)
class Assembled:
    snapshot: Snapshot
    watermark: Watermark
    dropped: Mapping[str, int]  # by reason
    examples: Sequence[Mapping[str, Any]]  # file, row, reason
    findings: Sequence[Finding]
    test_changes: Sequence[Mapping[str, Any]]  # as training.exam has them
    lengths: Mapping[str, Any] | None  # of the new texts, in tokens: training.token_lengths
    rows: pyarrow.Table | None  # h0, h1, split and label of all rows, unless there are many


def assemble(
    request: IngestRequest,
    store: Store,
    before: Watermark,
    waiting: Waiting,
    batch: Mapping[str, Any] | None,
    scratch: Path,
    *,
    fresh: bool,
) -> Assembled:
    """
    Decide which of the rows that are in force the snapshot keeps. Writes to ``scratch`` alone.

    :param scratch: has the new batch, unless the store has it; gets the rows that are left out.
    :param fresh: nothing that was decided before counts.
    :raises BatchRefused: a check sets the new batch aside. :raises BadInput: a check ends the run.
    """
    fresh = fresh or before.unsettled
    objects = [*waiting.read, *(objects_of(batch, "read") if batch else [])]
    ever = {one["key"]: one for one in before.batches}
    new: Batch | None = None
    if batch is not None:
        kept = sum(one["rows"] - sum(one["refused"].values()) for one in batch["objects"])
        named = {name: batch[name] for name in ("key", "number", "files")}
        new = {**named, "objects": len(batch["objects"]), "rows": kept}
        ever[batch["key"]] = new
    watermark = Watermark(
        reads_of(request.reading, request.checks),
        objects=sorted(objects, key=lambda one: (one.name, one.split or "")),
        batches=sorted(ever.values(), key=lambda one: one["key"]),
        selection=selection_of(request),
    )
    dead = watermark.dead()
    batches: list[Batch] = [{**one, "dead": dead[one["number"]]} for one in watermark.batches]
    places = {batch["key"]: scratch / "batch"} if batch and (scratch / "batch").is_dir() else {}
    with database(store) as db:
        create_every(db, store, batches, places)
        touched = None if fresh else _touched(db, store, before, waiting, new, places)
        settle(db, touched, _settled_before(store, before))
        found_before = before.near if touched else None
        watermark = replace(
            watermark,
            near=look_for_near(db, request.checks, store, batches, places, scratch, found_before, force=request.force),
        )
        left_out = dict(db.sql("SELECT reason, count(*) FROM settled GROUP BY reason").fetchall())
        layout = Layout([one for one in batches if len(one["dead"]) < one["objects"]])
        if left_out:
            file = scratch / "watermark" / DELETIONS
            db.sql("FROM settled ORDER BY batch, object, row").write_parquet(str(file), compression="zstd")
            watermark = replace(watermark, deletions=DELETIONS)
        if reason := why_refused_beside_others(request.checks, db, batch):
            raise BatchRefused(reason)
        settled = "settled" if left_out else None
        layout = _select(db, request, layout, watermark, waiting.own, settled)
        cells, arrived = _cells(db, new)
        findings: list[Finding] = find_personal_data(request.checks, batch)
        last = _last_snapshot(store, before)
        if watermark.near:
            keys = {one["number"]: one["key"] for one in batches}
            number = batch["number"] if batch else None
            told = before.near is not None
            findings += near_findings(db, request.checks, store, watermark.in_force(), keys, number, told=told)
        labels = check_labels(request.checks, Snapshot(cells, waiting.settings, layout), last, arrived)
        findings += labels.findings
        findings += find_personal_labels(request.checks, cells["train"].keys() - labels.left_out.keys())
        lengths, long = check_token_lengths(request, db, parquet_files(store, [new], places) if new else None)
        findings += long
        findings.sort(key=lambda one: FIRST.index(one.check) if one.check in FIRST else len(FIRST))
        enforce(request.checks, findings)
        shown = _shown(db, watermark, labels.left_out)
        layout = replace(layout, untrained=sorted(labels.left_out))
        dropped = _dropped(watermark, left_out, cells, labels.left_out)
        for split in SPLITS:
            cells[split] = {label: cell for label, cell in cells[split].items() if label not in labels.left_out}
        snapshot = Snapshot(cells, waiting.settings, layout)
        create_kept(db, layout, settled)
        test_split, test_changes = next_version(db, store, before, last, watermark, snapshot, arrived["test"])
        few = sum(snapshot.counts.values()) <= COMPARED_ROWS
        rows = db.sql("SELECT h0, h1, split, label FROM kept").to_arrow_table() if few else None
    watermark = replace(watermark, snapshot=snapshot.digest, test_split=test_split)
    if watermark.near:
        watermark = replace(watermark, near=f"{watermark.key}/{watermark.near}")
    if watermark.deletions:
        watermark = replace(watermark, deletions=f"{watermark.key}/{DELETIONS}")
        snapshot = replace(snapshot, layout=replace(layout, deletions=watermark.deletions))
    return Assembled(snapshot, watermark, dropped, shown, findings, test_changes, lengths, rows)


def _settled_before(store: Store, before: Watermark) -> str | None:
    """:return: relation of what was left out before; which texts are nearly others is decided apart."""
    if not before.deletions:
        return None
    reasons = ", ".join(map(quoted, REASONS.values()))
    return f"(FROM read_parquet({quoted(store.duckdb_path(before.deletions))}) WHERE reason NOT IN ({reasons}))"


def _touched(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    before: Watermark,
    waiting: Waiting,
    new: Batch | None,
    places: Mapping[str, Path],
) -> str:
    """:return: relation of the texts of new rows, and of rows that are not in force any more."""
    parts = ["SELECT 0::UBIGINT AS h0, 0::UBIGINT AS h1 WHERE FALSE"]
    if new and (files := parquet_files(store, [new], places)):
        parts.append(f"SELECT h0, h1 FROM {files}")
    if waiting.gone:
        numbers = {one.batch for one in waiting.gone}
        rows = [(one.batch, one.index) for one in waiting.gone]
        create_table(db, "gone", {"batch": "BIGINT", "object": "INTEGER"}, rows)
        if files := parquet_files(store, [one for one in before.batches if one["number"] in numbers]):
            parts.append(f"SELECT h0, h1 FROM {files} SEMI JOIN gone USING (batch, object)")
    return f"({' UNION ALL '.join(parts)})"


def _last_snapshot(store: Store, before: Watermark) -> Snapshot | None:
    """:return: the one that is in force; None: there is none, or it is damaged."""
    key = f"snapshots/{before.snapshot}"
    if before.snapshot is None or not store.is_complete(key):
        return None
    try:
        return Snapshot.load(read_manifest(store, key))
    except BadInput as error:
        log.warning("%s The new one is compared with none.", error)
        return None


def objects_of(batch: Mapping[str, Any], state: State) -> list[ObjectRead]:
    """What the watermark remembers of a batch."""
    fields = ("name", "version", "split", "bytes", "modified", "rows", "refused", "examples", "lengths")
    return [
        ObjectRead(**{name: one[name] for name in fields}, batch=batch["number"], index=index, state=state)
        for index, one in enumerate(batch["objects"])
    ]


def selection_of(request: IngestRequest) -> dict[str, Any]:
    """:return: which of the rows that are in force a snapshot takes."""
    days = request.checks.window_days
    drops_rare = policy_of(request.checks, "rare_label") == "drop"
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "window_start": (today - timedelta(days=days)).isoformat() if days else None,
        "max_rows_per_label": request.checks.max_rows_per_label,
        "max_rows": request.max_rows,
        "new_labels": policy_of(request.checks, "new_label") != "drop",
        "min_rows_per_label": request.checks.min_rows_per_label if drops_rare else None,
        "near": dropped_checks(request.checks),
    }


def _select(
    db: duckdb.DuckDBPyConnection,
    request: IngestRequest,
    layout: Layout,
    watermark: Watermark,
    own: frozenset[Split],
    settled: str | None,
) -> Layout:
    """Make ``kept`` known to ``db``. :return: the layout with window and cutoffs."""
    if start := watermark.selection["window_start"]:
        old = [[one.batch, one.index] for one in watermark.in_force() if one.modified and one.modified < start]
        layout = replace(layout, window={"start": start, "old": old})
    create_kept(db, layout, settled)
    cutoffs: list[dict[str, Any]] = []
    if most := request.checks.max_rows_per_label:
        cutoffs += _cutoffs(db, ["train"], lambda counts: dict.fromkeys(counts, most))
    if size := request.max_rows:
        cut = [split for split in SPLITS if split not in own]
        for splits in [cut, *([split] for split in own)]:
            cutoffs += _cutoffs(db, splits, lambda counts: quotas(counts, size))
    if cutoffs:
        layout = replace(layout, cutoffs=cutoffs)
        create_kept(db, layout, settled)
    return layout


def _cutoffs(
    db: duckdb.DuckDBPyConnection, splits: Sequence[Split], allowed: Callable[[Mapping[str, int]], Mapping[str, int]]
) -> list[dict[str, Any]]:
    """
    Of each label keep the rows of lowest hash, which are the same ones whatever else there is.

    :param allowed: makes rows by label out of the rows there are by label.
    :return: for every label that has more, and each of the splits, the largest hash that is still in.
    """
    chosen = f"kept WHERE split IN ({', '.join(map(quoted, splits))})"
    counts = dict(db.sql(f"SELECT label, count(*) FROM {chosen} GROUP BY label").fetchall())
    wanted = {label: most for label, most in allowed(counts).items() if most < counts[label]}
    if not wanted:
        return []
    create_table(db, "wanted", {"label": "VARCHAR", "most": "BIGINT"}, list(wanted.items()))
    placed = f"""
        SELECT label, h0, most, row_number() OVER (PARTITION BY label ORDER BY h0, h1) AS place
        FROM (SELECT label, h0, h1 FROM {chosen}) JOIN wanted USING (label)
    """
    last = dict(db.sql(f"SELECT label, h0 FROM ({placed}) WHERE place = most").fetchall())
    return [{"split": split, "label": label, "h0": last.get(label, 0)} for split in splits for label in sorted(wanted)]


def quotas(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """:return: ``size`` rows at most, as evenly over the labels as they allow."""
    taken = dict.fromkeys(sorted(counts), 0)
    while size and (open_labels := [label for label in taken if taken[label] < counts[label]]):
        step = max(1, min(size // len(open_labels), *(counts[label] - taken[label] for label in open_labels)))
        for label in open_labels[:size]:
            taken[label] += step
            size -= step
    return taken


def _cells(
    db: duckdb.DuckDBPyConnection, new: Batch | None
) -> tuple[dict[Split, dict[str, Cell]], dict[Split, dict[str, Cell]]]:
    """:return: what is kept, by split and label, and what of it is of the new batch."""
    cells: dict[Split, dict[str, Cell]] = {split: {} for split in SPLITS}
    arrived: dict[Split, dict[str, Cell]] = {split: {} for split in SPLITS}
    number = new["number"] if new else None
    for split, label, *sums in db.execute(
        "SELECT split, label, count(*), sum(digest), count(*) FILTER (batch = ?), sum(digest) FILTER (batch = ?) "
        "FROM kept GROUP BY split, label",
        [number, number],
    ).fetchall():
        rows, digest, new_rows, new_digest = (int(value or 0) for value in sums)
        cells[split][label] = Cell(rows, digest % 2**64)
        arrived[split][label] = Cell(new_rows, new_digest % 2**64)
    return cells, arrived


def _dropped(
    watermark: Watermark,
    left_out: Mapping[str, int],
    cells: Mapping[Split, Mapping[str, Cell]],
    untrained: Mapping[str, str],
) -> dict[str, int]:
    """
    :param untrained: labels that are left out, each with its reason.
    :return: by reason, how many of the rows in force are not in the snapshot.
    """
    counts: Counter[str] = Counter(left_out)
    for one in watermark.in_force():
        counts.update(one.refused)
    for label, reason in untrained.items():
        counts[reason] += sum(cells[split][label].rows for split in SPLITS if label in cells[split])
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _shown(db: duckdb.DuckDBPyConnection, watermark: Watermark, untrained: Mapping[str, str]) -> list[dict[str, Any]]:
    """:return: the first rows of each reason for which rows are left out: file, row, reason."""
    names = {(one.batch, one.index): one.name for one in watermark.in_force()}
    found: list[dict[str, Any]] = [
        {"file": one.name, "row": row, "reason": reason}
        for one in watermark.in_force()
        for reason, rows in sorted(one.examples.items())
        for row in rows
    ]
    create_table(db, "labels_left_out", {"label": "VARCHAR", "reason": "VARCHAR"}, list(untrained.items()))
    rows = db.sql(
        f"FROM (SELECT reason, batch, object, row FROM settled UNION ALL "
        "SELECT reason, batch, object, row FROM kept JOIN labels_left_out USING (label)) "
        f"QUALIFY row_number() OVER (PARTITION BY reason ORDER BY batch, object, row) <= {EXAMPLES_PER_REASON} "
        "ORDER BY reason, batch, object, row"
    ).fetchall()
    found += [{"file": names[batch, item], "row": row, "reason": reason} for reason, batch, item, row in rows]
    counts: Counter[str] = Counter()
    shown = []
    for one in sorted(found, key=lambda one: one["reason"]):
        counts[one["reason"]] += 1
        if counts[one["reason"]] <= EXAMPLES_PER_REASON:
            shown.append(one)
    return shown
