"""
Tell what a run made of the data that it read: ``data-reports/KEY`` with report.json and report.html.

The page is made of the JSON alone (training.data_page), so that whoever takes a text out of the one writes the other
anew. Beside each text there is what identifies it, under the same name: ``text_sha256``, ``near_text_sha256``.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from training.batch import REFUSED
from training.checks import policy_of
from training.columns import LENGTHS
from training.contract import SPLITS, BadInput, Checks, IngestRequest
from training.data_page import data_page
from training.keys import key_of
from training.layout import BATCHES, database, parquet_files, quoted
from training.personal import scan_of
from training.reasons import UNTRAINED_LABEL, check_of
from training.redact import redacted
from training.snapshot import read_manifest
from training.store import MANIFEST, Store
from training.text import text_hash

if TYPE_CHECKING:
    import duckdb

    from training.findings import Finding
    from training.intake import Ingested

log = logging.getLogger(__name__)

REPORTS = "data-reports"
REPORT, PAGE = "report.json", "report.html"
NAMED_OBJECTS = 20  # of the new, the changed and the removed ones
LABELS = 1000  # the rarest are left out: so many labels are a wrong column
EXAMPLES = 5  # rows of one reason, with their texts
EXAMPLES_OF_FINDING = 50
TEXT_LENGTH = 200
COMPARED_LENGTH = 1000  # of two texts that are shown side by side


def report_key(request: IngestRequest, found: Ingested) -> str:
    """:return: the same for a retry, and for a run that finds the same again beside the same last snapshot."""
    return f"{REPORTS}/{key_of({'pipeline': request.pipeline, 'last': found.last, 'watermark': found.watermark.key})}"


def put_report(store: Store, key: str, report: Mapping[str, Any]) -> str:
    """Write the JSON and its page; each is there whole, the manifest last. :return: the directory's URI."""
    store.write_json(f"{key}/{REPORT}", report)
    store.write_bytes(f"{key}/{PAGE}", data_page(store.read_json(f"{key}/{REPORT}")).encode())  # in the JSON's order
    store.write_json(f"{key}/{MANIFEST}", {name: report[name] for name in ("pipeline", "made", "snapshot")})
    return store.uri(key)


def describe(request: IngestRequest, store: Store, found: Ingested) -> dict[str, Any]:
    """:param found: with its batch and its watermark in the store. :return: the report, JSON."""
    snapshot, waiting = found.snapshot, found.waiting
    before = _last_manifest(store, found)
    last = None if before is None else before["label_rows"]
    return {
        "pipeline": request.pipeline,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "quarantined": found.quarantined,
        "source": dict(waiting.source),
        "snapshot": {"uri": store.uri(snapshot.key), "digest": snapshot.digest},
        "last": None if last is None else {"digest": found.last},
        "watermark": store.uri(found.watermark.key),
        "rows": {
            "now": snapshot.counts,
            "last": last and {split: sum(rows.values()) for split, rows in last.items()},
        },
        **_labels(snapshot.label_counts, last),
        "objects": {
            "counts": dict(waiting.counts),
            "named": {what: list(names[:NAMED_OBJECTS]) for what, names in waiting.names.items() if names},
        },
        **_dropped(request.checks, store, found, None if before is None else before["dropped"]),
        "test_split": _test_split(request.checks, found),
        "findings": [_finding(request.checks, one) for one in found.findings],
        "lengths": {"characters": _lengths(found), "tokens": found.lengths},
    }


def _last_manifest(store: Store, found: Ingested) -> dict[str, Any] | None:
    """:return: of the last snapshot, which the new one is compared with; None: there is none, or it is gone."""
    if found.quarantined or found.last is None or not store.is_complete(f"snapshots/{found.last}"):
        return None
    try:
        return read_manifest(store, f"snapshots/{found.last}")
    except BadInput:  # it is damaged, which ingest has told
        return None


def _labels(now: Mapping[str, Mapping[str, int]], last: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any]:
    """:return: ``labels``, each with its rows by split, and how many labels that leaves out."""
    total: Counter[str] = Counter()
    for rows in [*now.values(), *(last or {}).values()]:
        total.update(rows)
    chosen = [label for label, _rows in sorted(total.items(), key=lambda one: (-one[1], one[0]))[:LABELS]]
    labels = [
        {
            "label": label,
            "now": {split: now[split].get(label, 0) for split in SPLITS},
            "last": last and {split: last[split].get(label, 0) for split in SPLITS},
        }
        for label in chosen
    ]
    return {"labels": labels, "labels_left_out": len(total) - len(chosen)}


def _test_split(checks: Checks, found: Ingested) -> dict[str, Any] | None:
    """:return: which version of the test split the snapshot has, and the rows that left it or changed with this run."""
    version = found.watermark.test_split
    if version is None:
        return None
    return {**version, "examples": [identified(checks, one, TEXT_LENGTH) for one in found.test_changes]}


def _lengths(found: Ingested) -> list[list[int]]:
    """:return: from how many characters on, and the usable rows of that length; no gaps between."""
    counts: Counter[int] = Counter()
    for one in found.watermark.in_force():
        counts.update({int(length): rows for length, rows in one.lengths.items()})
    return [[length, counts[length]] for length in LENGTHS if counts and min(counts) <= length <= max(counts)]


def _finding(checks: Checks, one: Finding) -> dict[str, Any]:
    return {
        "check": one.check,
        "policy": policy_of(checks, one.check),
        "count": one.count,
        "sentence": one.sentence,
        "examples": [identified(checks, example, COMPARED_LENGTH) for example in one.examples[:EXAMPLES_OF_FINDING]],
    }


def identified(checks: Checks, example: Mapping[str, Any], length: int) -> dict[str, Any]:
    """:return: the example with its texts cut, and beside each what identifies the whole of it."""
    shown: dict[str, Any] = {}
    scan = scan_of(checks)
    for name, value in example.items():
        if isinstance(value, str) and (name == "text" or name.endswith("_text")):
            shown[f"{name}_sha256"] = text_hash(value)
            if scan:  # who wants to know of personal data does not want to read it here
                value, _kinds = redacted(value, scan.region)
            value = value if len(value) <= length else value[:length] + "…"
        shown[name] = value
    return shown


@dataclass(frozen=True)
class _Place:
    """Where a row that is left out lies."""

    batch: str  # key
    object: int
    row: int
    refused: bool  # by itself, so that it lies beside the rows that can be used
    reason: str
    name: str  # of the object
    is_new: bool


def _dropped(checks: Checks, store: Store, found: Ingested, before: Mapping[str, int] | None) -> dict[str, Any]:
    """
    :param before: rows by reason, as of the last snapshot.
    :return: ``dropped``: by reason how many rows, of the new ones, of all in force, and of those in force before;
        ``examples``: a few of each. Of new rows that were refused as a whole, what is wrong with them by themselves.
    """
    import duckdb

    with database(store) as db:
        _create_left_out(db, store, found)
        new = _of_new_rows(db, found.batch)
        places = _places(db, found)
        try:
            examples = list(_with_texts(checks, db, store, found, places))
        except duckdb.Error as error:
            log.warning("The data report shows no texts of rows that were left out: %s", str(error).splitlines()[0])
            examples = [{"file": one.name, "row": one.row, "reason": one.reason, "new": one.is_new} for one in places]
    everything = Counter() if found.quarantined else Counter(found.dropped)
    dropped = [
        {
            "reason": reason,
            "check": (check := None if reason == UNTRAINED_LABEL else check_of(reason)),
            "policy": policy_of(checks, check) if check else "drop",
            "new": new[reason],
            "all": everything[reason],
            "last": None if before is None else before.get(reason, 0),
        }
        for reason in sorted({*everything, *new}, key=lambda reason: (-new[reason], -everything[reason], reason))
    ]
    order = {one["reason"]: place for place, one in enumerate(dropped)}
    return {"dropped": dropped, "examples": sorted(examples, key=lambda one: order[one["reason"]])}


def _create_left_out(db: duckdb.DuckDBPyConnection, store: Store, found: Ingested) -> None:
    """Make the new rows known to ``db`` that are left out beside others: ``left_out`` with object, row and reason."""
    import duckdb

    db.execute("CREATE TABLE left_out (object INTEGER, row BIGINT, reason VARCHAR)")
    deletions = None if found.quarantined else found.watermark.deletions
    if deletions and found.batch is not None:
        file = f"read_parquet({quoted(store.duckdb_path(deletions))})"
        try:
            db.execute(
                f"INSERT INTO left_out SELECT object, row, reason FROM {file} WHERE batch = ?", [found.batch["number"]]
            )
        except duckdb.Error as error:
            log.warning(
                "The data report does not count the new rows that were left out beside others: %s",
                str(error).splitlines()[0],
            )


def _of_new_rows(db: duckdb.DuckDBPyConnection, batch: Mapping[str, Any] | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    if batch is not None:
        for one in batch["objects"]:
            counts.update(one["refused"])
        counts.update(dict(db.sql("SELECT reason, count(*) FROM left_out GROUP BY reason").fetchall()))
    return counts


def _places(db: duckdb.DuckDBPyConnection, found: Ingested) -> list[_Place]:
    """:return: a few rows of each reason: new ones, and where there are none, earlier ones."""
    chosen: list[_Place] = []
    batch = found.batch
    if batch is not None:
        names = [one["name"] for one in batch["objects"]]
        for reason in sorted({reason for one in batch["objects"] for reason in one["refused"]}):
            rows = [(i, row) for i, one in enumerate(batch["objects"]) for row in one["examples"].get(reason, ())]
            chosen += [_Place(batch["key"], i, row, True, reason, names[i], True) for i, row in rows[:EXAMPLES]]
        rows = db.sql(
            "SELECT reason, object, row FROM left_out "
            f"QUALIFY row_number() OVER (PARTITION BY reason ORDER BY object, row) <= {EXAMPLES} "
            "ORDER BY reason, object, row"
        ).fetchall()
        chosen += [_Place(batch["key"], i, row, False, reason, names[i], True) for reason, i, row in rows]
    keys = {one["number"]: one["key"] for one in found.watermark.batches}
    objects = {one.name: one for one in found.watermark.in_force()}
    counts = Counter(place.reason for place in chosen)
    shown = set(counts)
    for example in [] if found.quarantined else found.examples:
        reason, one = example["reason"], objects.get(example["file"])
        if one is not None and reason not in shown and counts[reason] < EXAMPLES:
            counts[reason] += 1
            chosen.append(
                _Place(keys[one.batch], one.index, example["row"], reason in one.refused, reason, one.name, False)
            )
    return chosen


def _with_texts(
    checks: Checks, db: duckdb.DuckDBPyConnection, store: Store, found: Ingested, places: Sequence[_Place]
) -> Iterator[dict[str, Any]]:
    batches = {one["key"]: one for one in (*found.watermark.batches, *([found.batch] if found.batch else []))}
    wanted: dict[tuple[str, bool], list[_Place]] = defaultdict(list)
    for one in places:
        wanted[one.batch, one.refused].append(one)
    for (key, refused), chosen in wanted.items():
        if refused:
            files: str | None = f"read_parquet({quoted(store.duckdb_path(f'{BATCHES}/{key}/{REFUSED}'))})"
        else:
            files = parquet_files(store, [batches[key]])
        rows = _read_rows(db, files, chosen) if files else {}
        for one in chosen:
            example = {"file": one.name, "row": one.row, "reason": one.reason, "new": one.is_new}
            text, label = rows.get((one.object, one.row), (None, None))
            yield identified(checks, {**example, "text": text, "label": label}, TEXT_LENGTH)


def _read_rows(
    db: duckdb.DuckDBPyConnection, files: str, places: Iterable[_Place]
) -> dict[tuple[int, int], tuple[str | None, str | None]]:
    """The files know the smallest and the largest of each few rows, so that little of them is read."""
    conditions = " OR ".join(f"(object = {int(one.object)} AND row = {int(one.row)})" for one in places)
    found = db.sql(f"SELECT object, row, text, label FROM {files} WHERE {conditions}").fetchall()
    return {(item, row): (text, label) for item, row, text, label in found}
