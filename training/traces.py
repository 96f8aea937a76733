"""Find where texts and objects are among all rows that a store has ever taken in."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from training.batch import REFUSED, batch_number
from training.contract import BadInput
from training.damage import Damage
from training.layout import BATCHES, Layout, create_kept, create_table, is_damage, quoted
from training.store import MANIFEST

if TYPE_CHECKING:
    import duckdb

    from training.store import Store

NOT_CHOSEN = "outside of window, cap or labels"  # what leaves a row out of a snapshot and is no reason of a row


@dataclass(frozen=True)
class BatchRead:
    """A batch of the store."""

    key: str
    number: int
    objects: Sequence[Mapping[str, Any]]  # as the batch's manifest has them
    files: Sequence[str]  # keys of those with rows
    damaged: bool = False  # there are others with rows, which cannot be read

    @property
    def place(self) -> str:
        return f"{BATCHES}/{self.key}"

    def named(self, names: Collection[str]) -> list[int]:
        """:return: the objects with one of these names, as indices."""
        return [index for index, one in enumerate(self.objects) if one["name"] in names]


def read_batches(store: Store) -> list[BatchRead]:
    """
    :return: all that are whole, also those that no snapshot draws on: quarantined, replaced, gone.
    :raises BadInput: the manifest of one is damaged.
    """
    found = []
    for place in store.list(BATCHES):
        key = place.rpartition("/")[2]
        if store.is_complete(place):
            try:
                objects = store.read_json(f"{place}/{MANIFEST}")["objects"]
                if not objects or not all(isinstance(one["name"], str) for one in objects):
                    raise ValueError("it names no objects")
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(
                    f"{store.uri(place)}/{MANIFEST} is damaged ({type(error).__name__}: {error}), so that nobody can "
                    "tell which objects its rows came from. Nothing was done. Put the file back from a backup, or "
                    "remove its directory: a run that recomputes reads the objects again."
                ) from error
            # as they lie there: a run that recomputed leaves the files that it read before, with the same rows
            files = [file for file in store.list(place) if file.endswith(".parquet") and not file.endswith(REFUSED)]
            found.append(BatchRead(key, batch_number(key), objects, files))
    return found


def names_like(batches: Iterable[BatchRead], patterns: Iterable[str]) -> set[str]:
    """:return: the objects' names that are one of the patterns, or that one of them matches as a glob."""
    names = {one["name"] for batch in batches for one in batch.objects}
    return {name for pattern in patterns for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)}


def require_known(batches: Iterable[BatchRead], wanted: Iterable[str], forgotten: Collection[str], undone: str) -> None:
    """
    :param wanted: names, or globs, of objects. :param forgotten: names of objects that no batch has any more.
    :param undone: what was not done.
    :raises BadInput: nothing that was ever read is called so; perhaps it is a slip.
    """
    known = {one["name"] for batch in batches for one in batch.objects} | set(forgotten)
    unknown = [one for one in wanted if one not in known and not fnmatch.filter(known, one)]
    if not unknown:
        return
    folder, _, name = unknown[0].rpartition("/")
    beside = {one.rpartition("/")[2]: one for one in known if one.rpartition("/")[0] == folder}
    close = difflib.get_close_matches(name, beside, n=1)
    meant = f" Did you mean {beside[close[0]]}?" if close else ""
    raise BadInput(f"No object {', '.join(sorted(unknown))} was ever read. {undone}{meant}")


def create_wanted(
    db: duckdb.DuckDBPyConnection, batches: Sequence[BatchRead], texts: Iterable[str], names: Collection[str]
) -> None:
    """
    Make what is looked for known to ``db``: ``wanted_texts`` (h0, h1) and ``wanted_objects`` (batch, object).

    :param texts: identities (training.forgotten).
    """
    words = [(int(text[:16], 16), int(text[16:32], 16)) for text in sorted(set(texts))]
    create_table(db, "wanted_texts", {"h0": "UBIGINT", "h1": "UBIGINT"}, words)
    objects = [(batch.number, index) for batch in batches for index in batch.named(names)]
    create_table(db, "wanted_objects", {"batch": "BIGINT", "object": "INTEGER"}, objects)


def create_found(
    db: duckdb.DuckDBPyConnection, store: Store, batches: Sequence[BatchRead], damage: Damage
) -> list[BatchRead]:
    """
    Make the rows known to ``db`` that are wanted: the table ``found`` with batch, object, row, split, label, time, h0
    and h1; and ``rows``, the same of all rows there are.

    :return: the batches with the files that can be read.
    """
    import duckdb

    try:
        _create_found(db, store, batches)
    except duckdb.Error as error:
        if not is_damage(error):
            raise
        batches = [_readable(db, store, one, damage) for one in batches]
        _create_found(db, store, batches)
    return list(batches)


def _readable(db: duckdb.DuckDBPyConnection, store: Store, batch: BatchRead, damage: Damage) -> BatchRead:
    files = []
    for file in batch.files:
        with damage.passed_over(store.uri(file)):
            db.execute(f"SELECT bit_xor(hash(r)) FROM read_parquet({quoted(store.duckdb_path(file))}) r").fetchall()
            files.append(file)
    return replace(batch, files=files, damaged=len(files) < len(batch.files))


def _create_found(db: duckdb.DuckDBPyConnection, store: Store, batches: Sequence[BatchRead]) -> None:
    files = [quoted(store.duckdb_path(file)) for one in batches for file in one.files]
    columns = "batch, object, row, split, label, time, h0, h1"
    nothing = (
        "SELECT 0::BIGINT AS batch, 0::INTEGER AS object, 0::BIGINT AS row, '' AS split, '' AS label, "
        "NULL::TIMESTAMPTZ AS time, 0::UBIGINT AS h0, 0::UBIGINT AS h1 WHERE FALSE"
    )
    source = f"SELECT {columns} FROM read_parquet([{', '.join(files)}])" if files else nothing
    db.execute(f"CREATE OR REPLACE TEMP VIEW rows AS {source}")
    db.execute(
        "CREATE OR REPLACE TEMP TABLE found AS FROM rows SEMI JOIN wanted_texts USING (h0, h1) "
        "UNION FROM rows SEMI JOIN wanted_objects USING (batch, object)"
    )


def count_in_snapshot(
    db: duckdb.DuckDBPyConnection, layout: Layout, deletions: str | None
) -> dict[str, dict[str, int]]:
    """
    :param deletions: relation of the rows that the snapshot leaves out.
    :return: of the rows in ``found`` that were in force for the snapshot, how many it kept or left out, by split and
        then by ``kept`` or the reason.
    """
    numbers = [(one["number"],) for one in layout.batches]
    create_table(db, "drawn", {"batch": "BIGINT"}, numbers)
    dead = [(one["number"], item) for one in layout.batches for item in one.get("dead", ())]
    create_table(db, "dead", {"batch": "BIGINT", "object": "INTEGER"}, dead)
    db.execute(
        "CREATE OR REPLACE TEMP VIEW every AS SELECT *, TRUE AS live FROM found SEMI JOIN drawn USING (batch) "
        "ANTI JOIN dead USING (batch, object)"
    )
    create_kept(db, layout, deletions)
    reasons = deletions or "(SELECT 0 AS batch, 0 AS object, 0 AS row, '' AS reason WHERE FALSE)"
    rows = db.execute(
        f"SELECT e.split, CASE WHEN k.row IS NOT NULL THEN 'kept' ELSE coalesce(d.reason, {quoted(NOT_CHOSEN)}) END, "
        f"count(*) FROM every e LEFT JOIN kept k USING (batch, object, row) "
        f"LEFT JOIN {reasons} d USING (batch, object, row) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts: dict[str, dict[str, int]] = {}
    for split, what, count in rows:
        counts.setdefault(split, {})[what] = count
    return counts
