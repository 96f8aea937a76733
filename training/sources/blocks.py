"""Put rows into batches: what Arrow can hold into a table, the rest beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.rows import kept_of
from training.sources.part import KEPT, BadRow, Batch, Columns, Row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow


NOTHING: Mapping[str, pyarrow.Array] = {}


@dataclass(frozen=True)
class Parsed:
    """A block whose rows are known already."""

    batch: Batch

    def parse(self) -> Batch:
        return self.batch


def table_of(
    numbers: np.ndarray | Sequence[int],
    texts: pyarrow.Array,
    labels: pyarrow.Array,
    times: pyarrow.Array | None = None,
    kept: Mapping[str, pyarrow.Array] = NOTHING,
) -> pyarrow.Table:
    """:param times: None: no time column was asked for. :param kept: of the columns to keep, as ``kept_column``."""
    import pyarrow

    columns = {
        "row": pyarrow.array(numbers, pyarrow.int64()),
        "text": texts.cast(pyarrow.large_string()),
        "label": labels.cast(pyarrow.large_string()),
    }
    if times is not None:
        columns["time"] = times
    return pyarrow.table({**columns, **{KEPT + name: values for name, values in kept.items()}})


def kept_column(values: Iterable[object]) -> pyarrow.Array:
    """:return: large_string: as ``kept_of`` for each value."""
    import pyarrow

    return pyarrow.array([kept_of(value) for value in values], pyarrow.large_string())


def batch_of(rows: Iterable[Row | BadRow], columns: Columns, *tables: pyarrow.Table) -> Batch:
    """:param tables: the other rows of the batch."""
    import pyarrow

    held: list[Row] = []
    others: list[Row | BadRow] = []
    for row in rows:
        if isinstance(row, Row) and _is_utf8(row.text) and _is_utf8(row.label):
            held.append(row)
        else:
            others.append(row)
    if held or not tables:
        numbers, texts, labels, times, _kept = zip(*held, strict=True) if held else ((), (), (), (), ())
        string = pyarrow.large_string()
        time = None if columns.time is None else pyarrow.array(times, pyarrow.timestamp("us", "UTC"))
        kept = {name: kept_column(row.kept[at] for row in held) for at, name in enumerate(columns.keep)}
        tables = (*tables, table_of(numbers, pyarrow.array(texts, string), pyarrow.array(labels, string), time, kept))
    return Batch(tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables), others)


def _is_utf8(value: object) -> bool:
    """:return: whether this is text, and no undecodable byte was read as a surrogate."""
    if not isinstance(value, str):
        return False
    if value.isascii():  # known without looking
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
