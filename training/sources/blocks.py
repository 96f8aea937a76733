"""Put rows into batches: what Arrow can hold into a table, the rest beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    numbers: np.ndarray, texts: pyarrow.Array, labels: pyarrow.Array, times: pyarrow.Array | None = None
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
        is_text = isinstance(row, Row) and isinstance(row.text, str) and isinstance(row.label, str)
        (held if is_text and _is_utf8(row) else others).append(row)  # type: ignore[arg-type]
    if held or not tables:
        numbers, texts, labels, times = zip(*held, strict=True) if held else ((), (), (), ())
        string = pyarrow.large_string()
        time = None if columns.time is None else pyarrow.array(times, pyarrow.timestamp("us", "UTC"))
        tables = (*tables, table_of(numbers, pyarrow.array(texts, string), pyarrow.array(labels, string), time))
    return Batch(tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables), others)


def _is_utf8(row: Any) -> bool:
    """:return: whether no undecodable byte was read as a surrogate."""
    try:
        row.text.encode()
        row.label.encode()
    except UnicodeEncodeError:
        return False
    return True
