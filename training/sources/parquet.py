"""Read Parquet in batches, two columns of it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from itertools import count
from shutil import copyfileobj
from typing import IO

from training.contract import BadInput
from training.sources.part import BadRow, Columns, Row, check_columns

BATCH_ROWS = 4096  # assumed: small enough for texts of a megabyte, large enough that Arrow's share of the time vanishes


def read_parquet(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Row | BadRow]:
    """:raises BadInput: a column is missing, or this is not Parquet or only a part of it."""
    import pyarrow
    from pyarrow import parquet

    with tempfile.TemporaryFile(prefix="ratchet-parquet-") as whole:
        source: IO[bytes] = stream
        if not _is_seekable(stream):  # compressed as a whole, and Parquet is read from its end
            copyfileobj(stream, whole)
            whole.seek(0)
            source = whole
        try:
            file = parquet.ParquetFile(source)
            check_columns(name, file.schema_arrow.names, columns)
            number = count(1)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                texts, labels = (batch.column(column).to_pylist() for column in columns)
                # the counter last: zip stops at the first iterator that ends, and must not have taken a number by then
                for text, label, at in zip(texts, labels, number, strict=False):
                    yield Row(at, text, label)
        except pyarrow.ArrowInvalid as error:
            raise BadInput(f"{name}: not Parquet, or only a part of it ({error}). Copy the file again.") from error


def _is_seekable(stream: io.BufferedReader) -> bool:
    try:
        return stream.seekable()
    except (OSError, ValueError):
        return False
