"""Read Parquet in batches, the columns that are used alone."""

from __future__ import annotations

import io
from collections.abc import Iterator

from training.contract import BadInput
from training.sources import part
from training.sources.columnar import blocks_of
from training.sources.part import Block, Columns, check_columns
from training.sources.spool import seekable

MOST_ROWS = 1 << 16  # assumed: of repeated values the file says less than what they will take
BUFFER_BYTES = 1 << 20  # assumed: of a column's pages; without one they are read whole, however large


def read_parquet(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: a column is missing, or this is not Parquet or only a part of it."""
    import pyarrow
    from pyarrow import parquet

    with seekable(stream) as whole:
        try:
            file = parquet.ParquetFile(whole, buffer_size=BUFFER_BYTES, pre_buffer=False)
            check_columns(name, file.schema_arrow.names, columns)
            batches = file.iter_batches(_rows_at_once(file.metadata), columns=columns.names, use_threads=False)
            yield from blocks_of((pyarrow.Table.from_batches([batch]) for batch in batches), columns)
        except pyarrow.ArrowInvalid as error:
            raise BadInput(f"{name}: not Parquet, or only a part of it ({error}). Copy the file again.") from error


def _rows_at_once(metadata: object) -> int:
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]  # type: ignore[attr-defined]
    size = sum(group.total_byte_size for group in groups)
    rows = sum(group.num_rows for group in groups)
    return max(1, min(MOST_ROWS, part.BLOCK_BYTES * rows // max(1, size)))
