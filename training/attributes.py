"""What is known of the rows of a test set beside text and label: kept columns, where they came from, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from training.contract import BadInput
from training.layout import Layout, database
from training.lineage import objects_of_batch
from training.snapshot import open_snapshot, read_manifest, read_table, show_rows
from training.sources.columnar import kept_strings
from training.sources.part import KEPT
from training.sources.times import times_of
from training.store import for_fsspec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

    from training.store import Store
    from training.testset import TestSet

Place = tuple[int, int]  # batch, and object in it


@dataclass(frozen=True)
class Attributes:
    """Each an array in the order of the test set's rows."""

    test_set: TestSet
    kept: Mapping[str, pyarrow.Array]  # strings, by the column's name
    source: pyarrow.Array  # name of the object; null: the test set is a file of its own
    time: pyarrow.Array  # timestamp[us] in UTC: when the row came to be, or its object; may be null

    @cached_property
    def rows(self) -> pyarrow.Table:
        """All of it, with text and label. A kept column goes before one of ours that is called the same."""
        import pyarrow

        ours = {
            "text": pyarrow.array(self.test_set.texts, pyarrow.large_string()),
            "label": self.labels,
            "source": self.source,
            "time": self.time,
        }
        hidden = {name.casefold() for name in self.kept}
        return pyarrow.table({**{name: one for name, one in ours.items() if name not in hidden}, **self.kept})

    @property
    def labels(self) -> pyarrow.Array:
        import pyarrow

        return pyarrow.array(self.test_set.labels, pyarrow.large_string())

    @cached_property
    def text_lengths(self) -> np.ndarray:
        """In characters."""
        import numpy as np

        return np.fromiter(map(len, self.test_set.texts), np.int64, len(self.test_set.texts))

    @cached_property
    def age_days(self) -> np.ndarray:
        """
        Against the newest row of the snapshot, so that it is the same whenever it is asked; NaN where nobody knows.

        :raises BadInput: no row has a time.
        """
        import numpy as np

        newest = self._newest()
        if newest is None:
            raise BadInput(f"{self.test_set.uri}: no row has a time, nor has what it came from. Give data.time")
        days = (np.datetime64(newest, "us") - self.time.to_numpy(zero_copy_only=False)) / np.timedelta64(1, "D")
        return np.where(self.time.is_valid().to_numpy(zero_copy_only=False), days, np.nan)

    def _newest(self) -> datetime | None:
        import pyarrow.compute as pc

        if self.test_set.uri.endswith(".parquet"):
            return pc.max(self.time).as_py()
        return _newest_row(*open_snapshot(self.test_set.uri))


def read_attributes(test_set: TestSet) -> Attributes:
    """:raises BadInput: the snapshot is not whole, or the file is gone."""
    read = _of_file if test_set.uri.endswith(".parquet") else _of_snapshot
    return read(test_set)


def _of_snapshot(test_set: TestSet) -> Attributes:
    import pyarrow
    import pyarrow.compute as pc

    store, key = open_snapshot(test_set.uri)
    manifest = read_manifest(store, key)
    keep = manifest["settings"].get("keep", [])
    rows = read_table(store, key, "test", columns="split, batch, object, time", keep=keep)
    rows = rows.take(pyarrow.array(test_set.places, pyarrow.int64())).combine_chunks()
    objects = _objects(store, key, Layout(**manifest["layout"]))
    read = [objects[place] for place in zip(rows["batch"].to_pylist(), rows["object"].to_pylist(), strict=True)]
    own = rows["time"].cast(pyarrow.timestamp("us", "UTC")).combine_chunks()
    modified = pyarrow.array([moment for _name, moment in read], pyarrow.timestamp("us", "UTC"))
    return Attributes(
        test_set,
        {name: rows[KEPT + name].combine_chunks() for name in keep},
        pyarrow.array([name for name, _moment in read], pyarrow.large_string()),
        pc.coalesce(own, modified).cast(pyarrow.timestamp("us")),
    )


def _objects(store: Store, key: str, layout: Layout) -> dict[Place, tuple[str, datetime | None]]:
    """:return: name of each object, and when it was changed."""
    return {
        (drawn["number"], index): (one["name"], datetime.fromisoformat(one["modified"]) if one["modified"] else None)
        for drawn in layout.batches
        for index, one in enumerate(objects_of_batch(store, key, drawn))
    }


def _newest_row(store: Store, key: str) -> datetime | None:
    """:return: naive, in UTC."""
    layout = Layout(**read_manifest(store, key)["layout"])
    objects = _objects(store, key, layout)
    with database(store) as db:
        show_rows(db, store, layout)
        found = db.sql(
            "SELECT batch, object, epoch_us(max(time)), bool_or(time IS NULL) FROM kept GROUP BY batch, object"
        ).fetchall()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moments = [epoch + timedelta(microseconds=last) for _batch, _object, last, _some in found if last is not None]
    moments += [at for batch, item, _last, some in found if some and (at := objects[batch, item][1]) is not None]
    return max(moments).astimezone(UTC).replace(tzinfo=None) if moments else None


def _of_file(test_set: TestSet) -> Attributes:
    import fsspec
    import pyarrow
    from pyarrow import parquet

    try:
        with fsspec.open(for_fsspec(test_set.uri), "rb") as file:
            table = parquet.read_table(file)
    except (FileNotFoundError, pyarrow.ArrowInvalid) as error:
        raise BadInput(f"{test_set.uri} cannot be read any more ({error}).") from error
    rows = table.take(pyarrow.array(test_set.places, pyarrow.int64())).combine_chunks()
    columns = {name: rows.column(at).combine_chunks() for at, name in enumerate(rows.column_names)}
    others = {name.casefold(): name for name in columns if name.casefold() not in ("text", "label")}
    time = times_of(columns["time"]) if "time" in columns else pyarrow.nulls(len(rows), pyarrow.timestamp("us", "UTC"))
    return Attributes(
        test_set,
        {name: kept_strings(columns[name]) for name in others.values()},
        pyarrow.nulls(len(rows), pyarrow.large_string()),
        time.cast(pyarrow.timestamp("us")),
    )
