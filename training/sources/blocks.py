"""Put rows into batches: what Arrow can hold into a table, the rest beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sources.part import BadRow, Batch, Columns, Row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow


@dataclass(frozen=True)
class Parsed:
    """A block whose rows are known already."""

    batch: Batch

    def parse(self) -> Batch:
        return self.batch


def table_of(
    numbers: np.ndarray | Sequence[int], texts: pyarrow.Array, labels: pyarrow.Array, times: pyarrow.Array | None = None
) -> pyarrow.Table:
    """:param times: None: no time column was asked for."""
    import pyarrow

    columns = {
        "row": pyarrow.array(numbers, pyarrow.int64()),
        "text": texts.cast(pyarrow.large_string()),
        "label": labels.cast(pyarrow.large_string()),
    }
    return pyarrow.table(columns if times is None else {**columns, "time": times})


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
        numbers, texts, labels, times = zip(*held, strict=True) if held else ((), (), (), ())
        string = pyarrow.large_string()
        time = None if columns.time is None else pyarrow.array(times, pyarrow.timestamp("us", "UTC"))
        tables = (*tables, table_of(numbers, pyarrow.array(texts, string), pyarrow.array(labels, string), time))
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
