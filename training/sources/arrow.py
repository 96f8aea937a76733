"""Read Arrow's own files (also called Feather) and streams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from training.contract import BadInput
from training.sources.columnar import blocks_of
from training.sources.part import Block, Columns, check_columns
from training.sources.spool import seekable

if TYPE_CHECKING:
    import pyarrow

FILE = b"ARROW1"  # how a file begins; a stream has no mark
FEATHER_1 = b"FEA1"


def read_arrow(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: a column is missing, or this is not Arrow or only a part of it."""
    import pyarrow

    head = stream.peek(len(FILE))
    if head.startswith(FEATHER_1):
        raise BadInput(f"{name}: Feather of the first version, which no reader takes any more. Save it as Parquet.")
    try:
        if head.startswith(FILE):
            with seekable(stream) as whole:
                yield from blocks_of(_file_tables(whole, name, columns), columns)
        else:
            yield from blocks_of(_stream_tables(_Ending(stream), name, columns), columns)
    except pyarrow.ArrowInvalid as error:
        raise BadInput(f"{name}: not Arrow, or only a part of it ({error}). Copy the file again.") from error


def _file_tables(file: IO[bytes], name: str, columns: Columns) -> Iterator[pyarrow.Table]:
    import pyarrow
    from pyarrow import ipc

    names = ipc.open_file(file).schema.names
    check_columns(name, names, columns)
    options = ipc.IpcReadOptions(included_fields=[names.index(column) for column in columns.names], use_threads=False)
    reader = ipc.open_file(file, options=options)
    for at in range(reader.num_record_batches):
        yield pyarrow.Table.from_batches([reader.get_batch(at)])


def _stream_tables(stream: _Ending, name: str, columns: Columns) -> Iterator[pyarrow.Table]:
    import pyarrow
    from pyarrow import ipc

    reader = ipc.open_stream(stream, options=ipc.IpcReadOptions(use_threads=False))
    check_columns(name, reader.schema.names, columns)
    for batch in reader:
        yield pyarrow.Table.from_batches([batch])
    if stream.has_ended:
        raise pyarrow.ArrowInvalid("it ends without the mark of its end")


class _Ending:
    """A stream that knows whether more was asked of it than there is; Arrow takes any end for the end."""

    closed = False

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.has_ended = False

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.has_ended |= len(content) < size
        return content
