"""
Count the versions of a pipeline's test split, and say what each changed against the one before.

Rows leave the test split only because they were deleted or corrected; new rows that hash into it join its next version.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.layout import create_table, is_damage
from training.snapshot import Cell, Snapshot, show_rows
from training.store import Store
from training.watermark import Watermark

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

EXAMPLES = 20  # of each kind of change
LISTED = ("deleted", "corrected")  # corrected: the text has another label now
# respelled: another spelling that is equal after normalisation, or another value in a column that is kept
CHANGES = ("added", *LISTED, "respelled")

Place = tuple[int, int, int]  # batch, object, row


def next_version(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    before: Watermark,
    last: Snapshot | None,
    watermark: Watermark,
    snapshot: Snapshot,
    arrived: Mapping[str, Cell],
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """
    The same test rows are the same version; other ones are the next.

    :param db: knows the rows of ``snapshot``, ``kept``, and of all batches, ``every`` (training.layout).
    :param last: the snapshot of ``before``; None: it is gone, and nobody knows what changed.
    :param watermark: that of ``snapshot``.
    :param arrived: test rows of the new batch that were kept, by label.
    :return: version, rows, digest of the cells, and how many rows were added, deleted, corrected and respelled since
        the version before (None: unknown); and the first that were deleted or corrected, each with change, was and
        label (what it was called and what it is called now), file, row and text.
    """
    import duckdb

    cells = {label: [cell.rows, cell.digest] for label, cell in snapshot.cells["test"].items()}
    digest = hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()
    earlier, rows = before.test_split, snapshot.counts["test"]
    if earlier is not None and earlier["digest"] == digest:
        return earlier, []
    counts: dict[str, int | None] = dict.fromkeys(CHANGES)
    examples: list[dict[str, Any]] = []
    if earlier is None:
        counts = {**dict.fromkeys(CHANGES, 0), "added": rows}
    elif last is not None and _only_grew(last, snapshot, arrived):
        counts = {**dict.fromkeys(CHANGES, 0), "added": rows - last.counts["test"]}
    elif last is not None:
        try:
            found, examples = _lost_and_changed(db, store, before, last, watermark)
            added = rows - last.counts["test"] + found["deleted"]
            counts = {"added": added, **{change: found[change] for change in CHANGES[1:]}}
        except duckdb.Error as error:
            if not is_damage(error):
                raise
            log.warning("What changed in the test split cannot be told: %s", str(error).splitlines()[0])
    version = earlier["version"] + 1 if earlier else 1
    told = ", ".join(f"{'unknown' if count is None else f'{count:,}'} {change}" for change, count in counts.items())
    log.info("test split: version %d, %s rows; %s", version, f"{rows:,}", told)
    return {"version": version, "rows": rows, "digest": digest, **counts}, examples


def _only_grew(last: Snapshot, snapshot: Snapshot, arrived: Mapping[str, Cell]) -> bool:
    """:return: whether the new rows explain all that is different, as they mostly do: then no row need be looked at."""
    then, now, none = last.cells["test"], snapshot.cells["test"], Cell(0, 0)
    return all(now.get(label) == then.get(label, none) + arrived.get(label, none) for label in then.keys() | now.keys())


def _lost_and_changed(
    db: duckdb.DuckDBPyConnection, store: Store, before: Watermark, last: Snapshot, watermark: Watermark
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """:return: how many of the last test rows were deleted, corrected and respelled, and examples."""
    with db.cursor() as other:  # of the same database, with temporary tables and views of its own
        show_rows(other, store, last.layout)
        columns = "h0, h1, label, digest, batch, object, row"
        other.execute(f"CREATE TABLE examined AS SELECT {columns} FROM kept WHERE split = 'test'")
        db.execute(
            """
            CREATE TEMP TABLE changed AS SELECT
                CASE WHEN n.h0 IS NULL THEN 'deleted' WHEN n.label <> e.label THEN 'corrected' ELSE 'respelled' END
                    AS change,
                h0, h1, e.label AS was, n.label AS label,
                coalesce(n.batch, e.batch) AS batch,
                coalesce(n.object, e.object) AS object,
                coalesce(n.row, e.row) AS row
            FROM examined e LEFT JOIN (FROM kept WHERE split = 'test') n USING (h0, h1)
            WHERE n.h0 IS NULL OR n.label <> e.label OR n.digest <> e.digest
            """
        )
        counts = Counter(dict(db.sql("SELECT change, count(*) FROM changed GROUP BY change").fetchall()))
        shown = db.execute(
            "SELECT change, was, label, batch, object, row FROM changed WHERE change IN ? "
            "QUALIFY row_number() OVER (PARTITION BY change ORDER BY h0, h1) <= ? ORDER BY change, h0, h1",
            [LISTED, EXAMPLES],
        ).fetchall()
        texts = _texts(other, [tuple(place) for change, _, _, *place in shown if change == "deleted"])
        texts |= _texts(db, [tuple(place) for change, _, _, *place in shown if change == "corrected"])
    files = {(one.batch, one.index): one.name for one in [*before.in_force(), *watermark.in_force()]}
    return counts, [
        {
            "change": change,
            "was": was,
            "label": label,
            "file": files.get((batch, item)),
            "row": row,
            "text": texts.get((batch, item, row)),
        }
        for change, was, label, batch, item, row in shown
    ]


def _texts(db: duckdb.DuckDBPyConnection, places: Sequence[Place]) -> dict[Place, str]:
    """:param db: knows ``every``."""
    create_table(db, "shown", {"batch": "BIGINT", "object": "INTEGER", "row": "BIGINT"}, places)
    rows = db.sql("SELECT batch, object, row, text FROM every SEMI JOIN shown USING (batch, object, row)").fetchall()
    return {(batch, item, row): text for batch, item, row, text in rows}
