"""
Take in the objects that were not read before: one batch of judged rows, immutable, the same for the same objects.

A batch is a directory ``batches/KEY`` with a Parquet file of the rows: text, label, split, where the row
came from (``object``, an index into the manifest's list, and ``row``) and what identifies it (``h0``, ``h1``: the first
128 bits of the SHA-256 of the normalised text; ``digest``: XXH3-64 of the text as it is). ``batch`` is the
same number in all rows of a batch, so that batch, object and row name a row among all that were ever read.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.columns import Judge, Judged
from training.contract import Checks, Reading, Split
from training.cores import cores
from training.keys import key_of
from training.layout import ROWS
from training.personal import Tally, scan_of
from training.rows import EXAMPLES_PER_REASON
from training.sources.part import Block, Columns, Part

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

log = logging.getLogger(__name__)

FORMAT = 2  # of the files and of what counts as a usable row; another number and everything is read again
PROGRESS_SECONDS = 5.0
ROW_GROUP_ROWS = 1 << 17  # measured: larger ones compress no better
BUFFER_BYTES = 64 << 20  # of rows that wait to be written
REFUSED = "refused.parquet"  # the rows that cannot be used, each with its reason


@dataclass(frozen=True)
class Unread:
    """An object to read, with the split that it was named for; None: its rows are split by the hash of their texts."""

    part: Part
    split: Split | None


@dataclass
class ReadObject:
    """What came of one object."""

    name: str
    version: str
    bytes: int | None
    modified: str | None
    split: Split | None
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)  # reason to row numbers
    lengths: Counter[str] = field(default_factory=Counter)  # of usable rows, as training.columns has them
    personal: Tally = field(default_factory=Tally)

    def count(self, judged: Judged) -> None:
        self.rows += judged.total
        self.lengths.update(judged.lengths)
        self.personal.count(judged.personal)
        for one in judged.refused:
            self.refused[one.reason] += 1
            shown = self.examples.setdefault(one.reason, [])
            if len(shown) < EXAMPLES_PER_REASON:
                shown.append(one.row)


def batch_key(unread: Sequence[Unread], reading: Reading, percents: tuple[int, int], checks: Checks) -> str:
    scan = scan_of(checks)
    return key_of(
        {
            "format": FORMAT,
            "objects": sorted([one.part.name, one.part.version, one.split or ""] for one in unread),
            "columns": [reading.text, reading.label, reading.time],
            "percents": percents,
            "labels": None if checks.labels is None else sorted(checks.labels),
            "personal": scan.identity if scan else None,  # also where rows stay as they are: the manifest has counts
        }
    )


def batch_number(key: str) -> int:
    return int(key[:15], 16)  # fits Parquet's and DuckDB's signed 64 bits


def read_batch(
    directory: Path,
    key: str,
    unread: Sequence[Unread],
    reading: Reading,
    percents: tuple[int, int],
    checks: Checks,
) -> dict[str, Any]:
    """
    Read the objects into Parquet files below ``directory``.

    :param percents: of the hash buckets, for test and validation.
    :return: the batch's manifest.
    :raises BadInput: an object cannot be read at all.
    """
    columns = Columns(reading.text, reading.label, reading.time)
    judge = Judge(percents, checks.labels, scan_of(checks))
    objects = [_object(one) for one in unread]
    with _Writer(directory, batch_number(key)) as writer:
        progress = _Progress(len(unread))
        for index, judged in _judged(unread, columns, judge):
            objects[index].count(judged)
            writer.add(index, judged)
            progress.tell(objects[index], index)
    for one in objects:
        refused = f"; {one.refused.total():,} refused: {listed(one.refused)}" if one.refused else ""
        level = logging.WARNING if one.refused else logging.INFO
        log.log(level, "read %s: %s rows%s", one.name, f"{one.rows:,}", refused)
    return {
        "key": key,
        "number": batch_number(key),
        "objects": [
            {**vars(one), "refused": dict(one.refused), "lengths": dict(one.lengths), "personal": vars(one.personal)}
            for one in objects
        ],
    }


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _object(unread: Unread) -> ReadObject:
    part = unread.part
    modified = part.modified.isoformat(timespec="seconds") if part.modified else None
    return ReadObject(part.name, part.version, part.bytes, modified, unread.split)


def _judged(unread: Sequence[Unread], columns: Columns, judge: Judge) -> Iterator[tuple[int, Judged]]:
    """Read in this thread, parse and judge in others, and give the results in their order."""
    workers = cores()

    def work(block: Block, split: Split | None) -> Judged:
        return judge.judge(block.parse(), split)

    waiting: deque[tuple[int, Future[Judged]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index, one in enumerate(unread):
                for block in one.part.read(columns):
                    waiting.append((index, pool.submit(work, block, one.split)))
                    if len(waiting) > workers + 1:  # what is in memory at a time
                        at, future = waiting.popleft()
                        yield at, future.result()
            for at, future in waiting:
                yield at, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class _Writer:
    """Writes usable and unusable rows, each to a file of its own, opened when its first row comes."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory, self.number = directory, number
        self._waiting: list[pyarrow.Table] = []
        self._waiting_rows = 0
        self._writers: dict[str, parquet.ParquetWriter] = {}

    def __enter__(self) -> _Writer:
        return self

    def add(self, index: int, judged: Judged) -> None:
        import pyarrow

        if judged.rows.num_rows:
            rows = judged.rows
            for name, value, kind in (("object", index, pyarrow.int32()), ("batch", self.number, pyarrow.int64())):
                rows = rows.append_column(name, pyarrow.repeat(pyarrow.scalar(value, kind), rows.num_rows))
            self._waiting.append(rows)
            self._waiting_rows += rows.num_rows
            if self._waiting_rows >= ROW_GROUP_ROWS or sum(t.nbytes for t in self._waiting) > BUFFER_BYTES:
                self._flush()
        if refused := judged.refused:
            table = pyarrow.table(
                {
                    "object": pyarrow.array([index] * len(refused), pyarrow.int32()),
                    "row": pyarrow.array([one.row for one in refused], pyarrow.int64()),
                    "reason": pyarrow.array([one.reason for one in refused], pyarrow.large_string()),
                    "text": pyarrow.array([one.text for one in refused], pyarrow.large_string()),
                    "label": pyarrow.array([one.label for one in refused], pyarrow.large_string()),
                }
            )
            self._write(REFUSED, table)

    def _flush(self) -> None:
        import pyarrow

        tables, self._waiting, self._waiting_rows = self._waiting, [], 0
        if tables:
            self._write(ROWS, pyarrow.concat_tables(tables))

    def _write(self, name: str, table: pyarrow.Table) -> None:
        from pyarrow import parquet

        if name not in self._writers:
            self._writers[name] = parquet.ParquetWriter(
                self.directory / name,
                table.schema,
                compression={column: _compression(column) for column in table.column_names},
                compression_level={"text": 1, "row": 1},
                use_dictionary=["label", "split", "object", "batch", "reason"],
                write_statistics=["object", "row", "time"],
                store_schema=False,
            )
        self._writers[name].write_table(table, row_group_size=ROW_GROUP_ROWS)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        for writer in self._writers.values():
            writer.close()


def _compression(column: str) -> str:
    return "none" if column in ("h0", "h1", "digest") else "zstd"  # hashes do not get any smaller


class _Progress:
    def __init__(self, objects: int) -> None:
        self.objects = objects
        self.rows: dict[int, int] = {}
        self.started = self.told = time.monotonic()

    def tell(self, one: ReadObject, index: int) -> None:
        self.rows[index] = one.rows
        now = time.monotonic()
        if now - self.told >= PROGRESS_SECONDS:
            self.told, total = now, sum(self.rows.values())
            log.info(
                "reading %s (object %d of %d): %s rows so far, %s rows/s",
                one.name,
                index + 1,
                self.objects,
                f"{total:,}",
                f"{total / (now - self.started):,.0f}",
            )
