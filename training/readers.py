"""
Parse, judge and write the rows of a batch: in this process while they are few, in processes of their own when many.

Python runs one thread at a time, and half of the work on a row is Python's; so the work is shared among processes. What
they write stays where they write it, a file each; only counts and the rows that cannot be used come back.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from training.columns import Judge, Refused
from training.contract import Split
from training.cores import cores
from training.personal import Found
from training.sources.part import KEPT, Block

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow
    from pyarrow import parquet

FEW_ROWS = 30_000  # assumed: they take half as long as starting the processes does
FEW_BYTES = 8 << 20  # of files, the same
ROW_GROUP_ROWS = 1 << 17  # measured: larger ones compress no better
BUFFER_BYTES = 64 << 20  # of rows that wait to be written
# Hashes do not get any smaller; texts get half as large, in a quarter of the time that all of ingest takes (measured).
UNCOMPRESSED = ("text", "h0", "h1", "digest")


@dataclass(frozen=True)
class Taken:
    """What came of a block."""

    rows: int  # usable or not
    refused: Sequence[Refused]
    lengths: Mapping[str, int]  # of the usable ones' texts (training.columns)
    personal: Sequence[Found]  # rows with personal data
    keys: Sequence[str]  # as training.sources.part.Batch has them


class Reader:
    """Takes in blocks and writes the rows that can be used to one file, opened when the first row comes."""

    def __init__(self, path: Path, number: int, judge: Judge) -> None:
        """:param path: of the file. :param number: of the batch."""
        self.path, self.number, self.judge = path, number, judge
        self._waiting: list[pyarrow.Table] = []
        self._rows = self._bytes = 0  # that wait
        self._writer: parquet.ParquetWriter | None = None

    def take(self, index: int, block: Block, split: Split | None) -> Taken:
        """:param index: of the object. :param split: the one that it was named for; None: by the hash of the text."""
        import pyarrow

        batch = block.parse()
        judged = self.judge.judge(batch, split)
        rows = judged.rows
        if rows.num_rows:
            for name, value, kind in (("object", index, pyarrow.int32()), ("batch", self.number, pyarrow.int64())):
                rows = rows.append_column(name, pyarrow.repeat(pyarrow.scalar(value, kind), rows.num_rows))
            self._waiting.append(rows)
            self._rows += rows.num_rows
            self._bytes += rows.nbytes
            if self._rows >= ROW_GROUP_ROWS or self._bytes > BUFFER_BYTES:
                self._write()
        return Taken(judged.total, judged.refused, judged.lengths, judged.personal, batch.keys)

    def close(self) -> str | None:
        """Finish the file. :return: its name; None: there was no row to write."""
        if self._waiting:
            self._write()
        if self._writer is None:
            return None
        self._writer.close()
        return self.path.name

    def _write(self) -> None:
        import pyarrow

        table = pyarrow.concat_tables(self._waiting)
        self._waiting.clear()
        self._rows = self._bytes = 0
        if self._writer is None:
            self._writer = open_writer(self.path, table.schema)
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def open_writer(path: Path, schema: pyarrow.Schema) -> parquet.ParquetWriter:
    """Begin a file of a batch, of rows that can be used or of others."""
    from pyarrow import parquet

    return parquet.ParquetWriter(
        path,
        schema,
        compression={column: "none" if column in UNCOMPRESSED else "zstd" for column in schema.names},
        use_dictionary=["label", "split", "object", "batch", *(one for one in schema.names if one.startswith(KEPT))],
        write_statistics=["object", "row", "time"],
        store_schema=False,
    )


class Readers:
    """As many readers as there are processors, and one here for the first rows."""

    def __init__(self, directory: Path, number: int, judge: Judge, size: int = 0) -> None:
        """:param size: bytes of what is to be read, as far as it is known."""
        # Which rows are in which file is a matter of time. So a batch that is read again has other files under other
        # names, and until its manifest is replaced the old one names the old ones.
        token = secrets.token_hex(4)
        self._files = (directory / f"rows-{token}-{place}.parquet" for place in count())
        self._number, self._judge = number, judge
        self._here = Reader(next(self._files), number, judge)
        self._taken_here = 0
        self._elsewhere: list[_Process] = []
        if size > FEW_BYTES:
            self._start()

    def _start(self) -> None:
        if not self._elsewhere and (processors := cores()) > 1:
            self._elsewhere = [_Process(next(self._files), self._number, self._judge) for _ in range(processors)]

    @property
    def blocks_at_once(self) -> int:
        """What should be waiting at most, so that every reader has work and memory stays small."""
        return 2 * len(self._elsewhere)

    def take(self, index: int, block: Block, split: Split | None) -> Future[Taken]:
        if self._taken_here >= FEW_ROWS:
            self._start()
        if self._elsewhere:
            return min(self._elsewhere, key=lambda process: process.waiting).take(index, block, split)
        done: Future[Taken] = Future()
        taken = self._here.take(index, block, split)
        self._taken_here += taken.rows
        done.set_result(taken)
        return done

    def close(self) -> list[str]:
        """Finish all files. :return: their names."""
        readers: list[Reader | _Process] = [self._here, *self._elsewhere]
        names = [name for one in readers if (name := one.close()) is not None]
        # While it is decided about the rows: whoever keeps the files waits until they are on the disk.
        threading.Thread(target=_to_disk, args=[[self._here.path.with_name(name) for name in names]]).start()
        return names

    def __enter__(self) -> Readers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._elsewhere:
            with ThreadPoolExecutor(len(self._elsewhere)) as all_at_once:
                list(all_at_once.map(_Process.end, self._elsewhere))


def _to_disk(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError), path.open("rb") as file:  # it is gone, or whoever keeps it finds out what is wrong
            os.fsync(file.fileno())


class _Process:
    """A reader in a process of its own."""

    def __init__(self, path: Path, number: int, judge: Judge) -> None:
        # not forked: threads of Arrow and of the stage run here
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _open, (path, number, judge))
        self._lock = threading.Lock()
        self.waiting = 0  # blocks

    def take(self, index: int, block: Block, split: Split | None) -> Future[Taken]:
        with self._lock:
            self.waiting += 1
        future = self._pool.submit(_take, index, block, split)
        future.add_done_callback(self._is_done)
        return future

    def _is_done(self, _future: Future[Taken]) -> None:
        with self._lock:
            self.waiting -= 1

    def close(self) -> str | None:
        return self._pool.submit(_close).result()

    def end(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_reader: Reader  # of this process


def _open(path: Path, number: int, judge: Judge) -> None:
    global _reader
    _reader = Reader(path, number, judge)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _take(index: int, block: Block, split: Split | None) -> Taken:
    return _reader.take(index, block, split)


def _close() -> str | None:
    return _reader.close()
