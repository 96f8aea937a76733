"""
Take in the objects that were not read before: one batch of judged rows, immutable, the same for the same objects.

A batch is a directory ``batches/KEY`` with Parquet files of the rows: text, label, split, where the row
came from (``object``, an index into the manifest's list, and ``row``) and what identifies it (``h0``, ``h1``: the first
128 bits of the SHA-256 of the normalised text; ``digest``: XXH3-64 of the text as it is, with what is kept beside it),
and the columns that the spec keeps, each as ``kept:NAME``. ``batch`` is the same number in all rows of a batch, so that
batch, object and row name a row among all that were ever read.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.columns import Judge, Refused
from training.contract import Checks, Reading, Split
from training.forgotten import Forgotten
from training.keys import key_of
from training.personal import Tally, scan_of
from training.readers import Readers, Taken
from training.reasons import EXAMPLES_PER_REASON
from training.sources.part import Columns, Part, ReadFailed, check_keys

if TYPE_CHECKING:
    from pyarrow import parquet

log = logging.getLogger(__name__)

FORMAT = 3  # of the files and of what counts as a usable row; another number and everything is read again
PROGRESS_SECONDS = 5.0
SHOWN_OBJECTS = 20  # in the log, of those with refused rows and of the others
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

    def count(self, taken: Taken) -> None:
        self.rows += taken.rows
        self.lengths.update(taken.lengths)
        self.personal.count(taken.personal)
        for one in taken.refused:
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
            "columns": [reading.text, reading.label, reading.time, *Columns.of(reading).keep],
            **({"as": reading.format} if reading.format else {}),  # whatever the objects' names say
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
    forgotten: Forgotten,
) -> dict[str, Any]:
    """
    Read the objects into Parquet files below ``directory``.

    :param percents: of the hash buckets, for test and validation.
    :param forgotten: texts that are not taken in.
    :return: the batch's manifest.
    :raises BadInput: an object cannot be read at all.
    """
    columns = Columns.of(reading)
    judge = Judge(percents, checks.labels, scan_of(checks), forgotten, columns.kept)
    objects = [_object(one) for one in unread]
    keys: list[dict[str, None]] = [{} for _ in unread]
    progress = _Progress(len(unread))
    with (
        Readers(directory, batch_number(key), judge, sum(one.part.bytes or 0 for one in unread)) as readers,
        _Refusals(directory / REFUSED) as refusals,
    ):
        try:
            for index, taken in _taken(unread, columns, readers):
                objects[index].count(taken)
                keys[index].update(dict.fromkeys(taken.keys))
                refusals.add(index, taken.refused)
                progress.tell(objects[index], index)
            files = readers.close()
        except BrokenProcessPool as error:
            raise ReadFailed(
                "A process that reads rows was killed, perhaps for want of memory. No snapshot was made. Try again."
            ) from error
    for read, seen in zip(objects, keys, strict=True):
        check_keys(read.name, seen, columns)
    _tell([one for one in objects if not one.refused], logging.INFO)
    _tell([one for one in objects if one.refused], logging.WARNING)
    return {
        "key": key,
        "number": batch_number(key),
        "files": files,
        "objects": [
            {**vars(one), "refused": dict(one.refused), "lengths": dict(one.lengths), "personal": vars(one.personal)}
            for one in objects
        ],
    }


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _tell(objects: Sequence[ReadObject], level: int) -> None:
    shown = objects if len(objects) <= SHOWN_OBJECTS else objects[: SHOWN_OBJECTS - 1]
    told = [(one.name, one.rows, one.refused) for one in shown]
    if rest := objects[len(shown) :]:
        rows, refused = sum(one.rows for one in rest), sum((one.refused for one in rest), Counter())
        told.append((f"{len(rest):,} more objects", rows, refused))
    for name, rows, refused in told:
        why = f"; {refused.total():,} refused: {listed(refused)}" if refused else ""
        log.log(level, "read %s: %s rows%s", name, f"{rows:,}", why)


def _object(unread: Unread) -> ReadObject:
    part = unread.part
    modified = part.modified.isoformat(timespec="seconds") if part.modified else None
    return ReadObject(part.name, part.version, part.bytes, modified, unread.split)


def _taken(unread: Sequence[Unread], columns: Columns, readers: Readers) -> Iterator[tuple[int, Taken]]:
    """:return: the index of the object, and what came of a block of it, in the blocks' order."""
    waiting: deque[tuple[int, Future[Taken]]] = deque()
    for index, one in enumerate(unread):
        for block in one.part.read(columns):
            waiting.append((index, readers.take(index, block, one.split)))
            while len(waiting) > readers.blocks_at_once:
                at, future = waiting.popleft()
                yield at, future.result()
    for at, future in waiting:
        yield at, future.result()


class _Refusals:
    """Writes the rows that cannot be used to a file of their own, opened when the first one comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: parquet.ParquetWriter | None = None

    def __enter__(self) -> _Refusals:
        return self

    def add(self, index: int, refused: Sequence[Refused]) -> None:
        import pyarrow
        from pyarrow import parquet

        if not refused:
            return
        table = pyarrow.table(
            {
                "object": pyarrow.array([index] * len(refused), pyarrow.int32()),
                "row": pyarrow.array([one.row for one in refused], pyarrow.int64()),
                "reason": pyarrow.array([one.reason for one in refused], pyarrow.large_string()),
                "text": pyarrow.array([one.text for one in refused], pyarrow.large_string()),
                "label": pyarrow.array([one.label for one in refused], pyarrow.large_string()),
            }
        )
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema, compression="zstd", store_schema=False)
        self._writer.write_table(table)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


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
