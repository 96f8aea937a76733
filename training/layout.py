"""
Say where the rows of a snapshot lie: which batches it draws on, and which of their rows are not part of it.

Batches never change, so a snapshot shares them with the ones before it and adds what is new: a few objects more, a few
rows less. Leaving rows out works as deletion vectors do in Delta Lake and Iceberg: by naming them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cores import cores
from training.room import no_room
from training.scratch import scratch_directory
from training.sources.part import KEPT

if TYPE_CHECKING:
    import duckdb

    from training.store import Store

BATCHES = "batches"
Batch = Mapping[str, Any]  # key, number, files, rows and objects (how many), dead: objects not in force
NOWHERE: Mapping[str, Path] = {}
ROW = "split, batch, object, row, label, text, time, h0, h1, digest"  # the columns that every batch has
MEMORY_LIMIT = "800MB"  # of DuckDB; what does not fit is spilled to disk


@dataclass(frozen=True)
class Layout:
    """JSON in a snapshot's manifest; ``object`` is always an index into the list of its batch."""

    batches: Sequence[Batch]
    deletions: str | None = None  # key of a Parquet file: batch, object, row, h0, h1, reason
    window: Mapping[str, Any] | None = None  # start: ISO 8601; old: [batch, object] of objects from before it
    cutoffs: Sequence[Mapping[str, Any]] = ()  # split, label, h0: the largest that is still in
    untrained: Sequence[str] = field(default=())  # labels without a training row

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value}


def create_every(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    batches: Sequence[Batch],
    places: Mapping[str, Path] = NOWHERE,
    keep: Sequence[str] = (),
) -> None:
    """
    Make the rows known to ``db`` that are in force (``live``) or were ever in a test split: the view ``every`` with
    split, rank, live, batch, object, row, label, text, time, h0, h1 and digest.

    :param places: directories of batches that are not in the store yet, by key.
    :param keep: columns that the spec keeps, which ``every`` is to have as well; a batch may be from before that.
    """
    dead = [(one["number"], item) for one in batches for item in one.get("dead", ())]
    create_table(db, "dead", {"batch": "BIGINT", "object": "INTEGER"}, dead)
    live = "TRUE"
    if dead:
        live = "(batch, object) NOT IN (SELECT (batch, object) FROM dead)"
    whole = [one for one in batches if len(one.get("dead", ())) < one["objects"]]
    examined = [one for one in batches if one not in whole]  # of these only what was once a test row counts
    columns = ", ".join([ROW, *(identifier(KEPT + name) for name in keep)])
    branches = [
        f"SELECT {columns}, CASE split WHEN 'test' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END AS rank, {live} AS live "
        f"FROM {files} r {condition}"
        for drawn, condition in ((whole, ""), (examined, "WHERE split = 'test'"))
        if (files := parquet_files(store, drawn, places, by_name=bool(keep)))
    ]
    db.execute(f"CREATE OR REPLACE TEMP VIEW every AS {' UNION ALL '.join(branches) or _NO_ROWS}")


def create_kept(db: duckdb.DuckDBPyConnection, layout: Layout, deletions: str | None) -> None:
    """
    Make the snapshot's rows known to ``db``: the view ``kept``, with the columns of ``every``.

    :param deletions: relation of ``db`` with batch, object and row of what is left out.
    """
    rows = f"(FROM every ANTI JOIN {deletions} USING (batch, object, row))" if deletions else "every"
    conditions = ["live"]
    if layout.window:
        create_table(db, "old", {"batch": "BIGINT", "object": "INTEGER"}, layout.window["old"])
        start = f"TIMESTAMPTZ {quoted(layout.window['start'])}"
        conditions.append(
            f"(split = 'test' OR time >= {start} OR (time IS NULL AND (batch, object) NOT IN "
            "(SELECT (batch, object) FROM old)))"
        )
    if layout.cutoffs:
        last = [(one["split"], one["label"], one["h0"]) for one in layout.cutoffs]
        create_table(db, "cutoffs", {"split": "VARCHAR", "label": "VARCHAR", "h0": "UBIGINT"}, last)
        conditions.append("NOT EXISTS (FROM cutoffs c WHERE c.split = e.split AND c.label = e.label AND e.h0 > c.h0)")
    if layout.untrained:
        create_table(db, "untrained", {"label": "VARCHAR"}, [(label,) for label in layout.untrained])
        conditions.append("label NOT IN (FROM untrained)")
    db.execute(f"CREATE OR REPLACE TEMP VIEW kept AS SELECT * FROM {rows} e WHERE {' AND '.join(conditions)}")


def parquet_files(
    store: Store, batches: Sequence[Batch], places: Mapping[str, Path] = NOWHERE, *, by_name: bool = False
) -> str | None:
    """
    :param by_name: a column that only some of the files have is null in the others.
    :return: a call of ``read_parquet`` on the batches' rows; None: there is no batch.
    """
    files = [
        str(places[one["key"]] / file) if one["key"] in places else store.duckdb_path(f"{BATCHES}/{one['key']}/{file}")
        for one in batches
        for file in one["files"]
    ]
    options = ", union_by_name = true" if by_name else ""
    return f"read_parquet([{', '.join(map(quoted, files))}]{options})" if files else None


def is_readable(store: Store, batch: Batch) -> bool:
    """:return: whether the files of a batch are there, each from its beginning to its end."""
    import pyarrow
    from pyarrow import parquet

    try:
        for file in batch["files"]:
            with store.open(f"{BATCHES}/{batch['key']}/{file}") as content:
                parquet.ParquetFile(content).close()
    except (FileNotFoundError, pyarrow.ArrowInvalid):
        return False
    return True


_NO_ROWS = (  # what DuckDB needs to know when there is no file
    "SELECT '' AS split, 0 AS rank, TRUE AS live, 0::BIGINT AS row, '' AS label, '' AS text, "
    "NULL::TIMESTAMPTZ AS time, 0::UBIGINT AS h0, 0::UBIGINT AS h1, 0::UBIGINT AS digest, "
    "0::INTEGER AS object, 0::BIGINT AS batch WHERE FALSE"
)


@contextmanager
def database(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that may read the store and spills what is too much for it to disk."""
    import duckdb

    with scratch_directory("duckdb-") as spill:
        settings = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(spill),
            "threads": cores(),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=settings) as db:
            if not store.is_local:
                db.register_filesystem(store.fs)
            yield db


def is_damage(error: Exception) -> bool:
    """:return: whether a file of the store is gone or not what it was; not that a disk is full or a server away."""
    import duckdb

    if no_room(error):
        return False
    if type(error) is duckdb.Error:  # of Parquet's inner parts; or what fsspec raised, with a traceback for its text
        return "FileNotFoundError" in str(error) or not str(error).startswith("Traceback")
    return isinstance(error, (duckdb.IOException, duckdb.InvalidInputException))


def create_table(
    db: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]
) -> None:
    """
    :param columns: name to type: VARCHAR, INTEGER, BIGINT or UBIGINT.
    :param rows: values in the order of the columns.
    """
    if not rows:
        db.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({', '.join(map(' '.join, columns.items()))})")
        return
    import pyarrow

    kinds = {"VARCHAR": pyarrow.string(), "BIGINT": pyarrow.int64(), "INTEGER": pyarrow.int32()}
    kinds["UBIGINT"] = pyarrow.uint64()  # which is not what a number above 2**63 becomes by itself
    schema = pyarrow.schema([(column, kinds[kind]) for column, kind in columns.items()])
    given = pyarrow.table([list(values) for values in zip(*rows, strict=True)], schema=schema)
    db.register("given", given)
    db.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM given")
    db.unregister("given")


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
