"""
Take rows out of batches, and correct what counts them: deletion vectors, snapshots and watermarks.

A row is named by batch, object and number, so that the others stay what they are when it goes. A snapshot keeps the
name that it was given; the next one is named by what is left. Everything here may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.batch import REFUSED
from training.contract import SPLITS, Split
from training.damage import Damage
from training.forgotten import Forgotten
from training.layout import Layout, create_every, create_kept, quoted
from training.readers import open_writer
from training.reasons import FORGOTTEN
from training.snapshot import Cell, Snapshot
from training.store import MANIFEST, Store
from training.traces import BatchRead

if TYPE_CHECKING:
    import duckdb
    import pyarrow

Scrub = Callable[[Any], Any]  # of a JSON document (training.forget_copies)


@dataclass(frozen=True)
class Rows:
    """:param db: knows ``found``, ``rows`` and what is wanted (training.traces)."""

    db: duckdb.DuckDBPyConnection
    store: Store
    scratch: Path
    forgotten: Forgotten
    batches: Sequence[BatchRead]
    damage: Damage

    def batches_with_rows(self) -> set[int]:
        """:return: the numbers of the batches that have rows to take out."""
        return {number for (number,) in self.db.sql("SELECT DISTINCT batch FROM found").fetchall()}

    def take_out_of_batch(self, batch: BatchRead, *, has_rows: bool) -> tuple[int, int]:
        """:return: rows that were taken out, and refused ones that keep place and reason and lose text and label."""
        named = batch.named(self.forgotten.objects)
        taken = emptied = 0
        for file in batch.files if has_rows else ():
            with self.damage.passed_over(self.store.uri(file)):
                taken += self._rewrite(file, lambda rows: self._without(rows, named))
        if self.store.exists(f"{batch.place}/{REFUSED}"):
            with self.damage.passed_over(self.store.uri(f"{batch.place}/{REFUSED}")):
                emptied = self._rewrite(f"{batch.place}/{REFUSED}", lambda rows: self._emptied(rows, named))
        return taken, emptied

    def _without(self, rows: pyarrow.Table, named: Sequence[int]) -> tuple[pyarrow.Table, int]:
        import numpy as np
        import pyarrow

        keep = ~np.isin(rows["object"].to_numpy(), named)
        keep[self.forgotten.places_in(rows["h0"].to_numpy(), rows["h1"].to_numpy())] = False
        return rows.filter(pyarrow.array(keep)), int((~keep).sum())

    def _emptied(self, rows: pyarrow.Table, named: Sequence[int]) -> tuple[pyarrow.Table, int]:
        import numpy as np
        import pyarrow
        import pyarrow.compute as pc

        told = pc.or_(rows["text"].is_valid(), rows["label"].is_valid()).to_numpy()
        gone = np.isin(rows["object"].to_numpy(), named)
        gone |= np.array([self.forgotten.has(text) for text in rows["text"].to_pylist()], bool)
        for name in ("text", "label"):
            empty = pc.if_else(pyarrow.array(gone), pyarrow.scalar(None, rows[name].type), rows[name])
            rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), empty)
        return rows, int((gone & told).sum())

    def _rewrite(self, key: str, change: Callable[[pyarrow.Table], tuple[pyarrow.Table, int]]) -> int:
        """Replace a Parquet file, unless nothing in it changes. :return: rows that changed or are gone."""
        from pyarrow import parquet

        total = 0
        made = self.scratch / Path(key).name
        with self.store.open(key) as file:
            source = parquet.ParquetFile(file)
            with open_writer(made, source.schema_arrow) as writer:
                for number in range(source.num_row_groups):
                    rows, count = change(source.read_row_group(number))
                    writer.write_table(rows)
                    total += count
        if total:
            self.store.put_file(made, key)
        return total

    def count_in_batch(self, batch: BatchRead) -> BatchRead:
        """Say in the batch's manifest how many rows of each object are gone. :return: the batch as it is then."""
        if batch.damaged:  # its other rows cannot be counted
            return batch
        rest = dict(
            self.db.execute(
                "SELECT object, count(DISTINCT row) FROM (FROM rows ANTI JOIN found USING (batch, object, row)) "
                "WHERE batch = ? GROUP BY object",
                [batch.number],
            ).fetchall()
        )
        objects = []
        for index, one in enumerate(batch.objects):
            refused = {reason: count for reason, count in one["refused"].items() if reason != FORGOTTEN}
            gone = one["rows"] - sum(refused.values()) - rest.get(index, 0)
            objects.append({**one, "refused": {**refused, **({FORGOTTEN: gone} if gone else {})}})
        if objects != list(batch.objects):
            place = f"{batch.place}/{MANIFEST}"
            self.store.write_json(place, {**self.store.read_json(place), "objects": objects})
        return replace(batch, objects=objects)

    def take_out_of_index(self, key: str) -> int:
        """
        :param key: of a Parquet file that names rows by batch, object and row and has what identifies their texts, h0
            and h1: those that a snapshot leaves out, signatures, texts that are nearly others (near_h0, near_h1).
        :return: rows that are gone.
        """
        with self.damage.passed_over(self.store.uri(key)):
            return self._take_out_of_index(key)
        return 0

    def _take_out_of_index(self, key: str) -> int:
        source = f"read_parquet({quoted(self.store.duckdb_path(key))})"
        rest = f"{source} i ANTI JOIN wanted_texts USING (h0, h1) ANTI JOIN wanted_objects USING (batch, object)"
        if "near_h0" in self.db.sql(f"FROM {source}").columns:
            rest += " ANTI JOIN going g ON i.near_h0 = g.h0 AND i.near_h1 = g.h1"
        gone = _count(self.db, source) - _count(self.db, rest)
        if gone:
            made = self.scratch / Path(key).name
            self.db.sql(f"FROM {rest} ORDER BY batch, object, row").write_parquet(str(made), compression="zstd")
            self.store.put_file(made, key)
        return gone

    def correct_snapshot(self, key: str, numbers: Collection[int], scrub: Scrub) -> bool:
        """
        :param numbers: of the batches that lose rows; a snapshot that draws on none of them loses none.
        :return: whether the snapshot counted rows that go.
        """
        manifest = self.store.read_json(f"{key}/{MANIFEST}")
        layout = Layout(**manifest["layout"])
        told = scrub(manifest)
        if any(one["number"] in numbers for one in layout.batches):
            with self.damage.passed_over(self.store.uri(key)):
                told = self._recounted(told, layout)
        if told != manifest:
            self.store.write_json(f"{key}/{MANIFEST}", told)
        return told.get("forgotten") != manifest.get("forgotten")

    def _recounted(self, manifest: dict[str, Any], layout: Layout) -> dict[str, Any]:
        create_every(self.db, self.store, layout.batches)
        deletions = layout.deletions and f"read_parquet({quoted(self.store.duckdb_path(layout.deletions))})"
        create_kept(self.db, layout, deletions)
        cells: dict[Split, dict[str, Cell]] = {split: {} for split in SPLITS}
        for split, label, rows, digest in self.db.sql(
            "SELECT split, label, count(*), sum(digest) FROM kept ANTI JOIN found USING (batch, object, row) "
            "GROUP BY split, label"
        ).fetchall():
            cells[split][label] = Cell(rows, int(digest) % 2**64)
        untrained = {label for split in SPLITS for label in cells[split]} - cells["train"].keys()
        for split in SPLITS:
            cells[split] = {label: cell for label, cell in cells[split].items() if label not in untrained}
        layout = replace(layout, untrained=sorted({*layout.untrained, *untrained}))
        snapshot = Snapshot(cells, manifest["settings"], layout, manifest["digest"])
        gone = sum(manifest["rows"].values()) - sum(snapshot.counts.values())
        return (
            {**manifest, **snapshot.to_json(), "forgotten": manifest.get("forgotten", 0) + gone} if gone else manifest
        )

    def correct_watermark(self, place: str, lost: Collection[str], scrub: Scrub) -> bool:
        """
        :param lost: digests of the snapshots that lost rows.
        :return: whether it was corrected. The next run then decides anew which of the other rows stay.
        """
        changed = sum(self.take_out_of_index(key) for key in self.store.list(place) if key.endswith(".parquet"))
        manifest = self.store.read_json(f"{place}/{MANIFEST}")
        refused = {(one.number, i): item["refused"] for one in self.batches for i, item in enumerate(one.objects)}
        objects = [
            {**one, "refused": refused.get((one["batch"], one["index"]), one["refused"])}
            for one in manifest["objects"]
            if one["name"] not in self.forgotten.objects
        ]
        told = scrub({**manifest, "objects": objects})
        if changed or told != manifest or manifest["snapshot"] in lost:
            told["unsettled"] = True
        if told != manifest:
            self.store.write_json(f"{place}/{MANIFEST}", told)
        return told != manifest


def _count(db: duckdb.DuckDBPyConnection, relation: str) -> int:
    [(count,)] = db.sql(f"SELECT count(*) FROM {relation}").fetchall()
    return int(count)
