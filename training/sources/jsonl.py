"""
Read JSON Lines: one object on each line.

Arrow parses the lines of a block at once (``training.sources.json_columns``); Python reads those that it leaves.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from training.contract import BadInput
from training.sources import part
from training.sources.blocks import batch_of, table_of
from training.sources.json_columns import Lines, parse_lines
from training.sources.part import LONGEST_LINE, BadRow, Batch, Block, Columns, Row, missing_column
from training.sources.times import time_of, times_of
from training.sources.unicode import skip_mark

SHOWN_OBJECTS = 1000  # whose keys are told when one is missing
END = 0  # of the file, where blocks have the number of their first line


def read_jsonl(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: no object of the file has one of the columns, which is known when all blocks are parsed."""
    import numpy as np

    skip_mark(stream, name)
    keys = _Keys(name, columns)
    number = 1
    while content := stream.read(part.BLOCK_BYTES):
        if not content.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
            if len(rest) == LONGEST_LINE:
                raise BadInput(f"{name}: a line of more than {LONGEST_LINE:,} bytes. Nothing was kept. Is this JSONL?")
            content += rest
        keys.expect(number)
        yield _Block(content, number, columns, keys)
        number += int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))
    keys.judge(END)


@dataclass(frozen=True)
class _Block:
    content: bytes  # whole lines
    first: int  # the number of the first line
    columns: Columns
    keys: _Keys

    def parse(self) -> Batch:
        import numpy as np

        text, label, time = self.columns
        lines = Lines.of(self.content)
        left = np.ones(len(lines), bool)
        tables, is_timed = [], False
        for at, values in parse_lines(lines, self.columns):
            times = None
            if time is not None:
                is_timed |= values[time].null_count < len(values)
                times = times_of(values[time].combine_chunks())
            tables.append(table_of(at + self.first, values[text], values[label], times))
            left[at] = False
        if time is not None and not is_timed and not self.keys.has(time):
            tables, left = [], np.ones(len(lines), bool)  # is it null, or not there? Arrow does not tell
        elif not left.all():
            self.keys.see(self.columns.names)
        rows = (_read_line(self.first + at, lines[at], self.columns, self.keys) for at in np.flatnonzero(left).tolist())
        batch = batch_of((row for row in rows if row is not None), self.columns, *tables)
        self.keys.judge(self.first)
        return batch


def _read_line(number: int, line: bytes, columns: Columns, keys: _Keys) -> Row | BadRow | None:
    """:return: None: the line is blank."""
    if not line.strip():
        return None
    try:
        # undecodable bytes survive as surrogates: they matter only in the columns that are used
        value = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return BadRow(number, "broken JSON")
    if not isinstance(value, dict):
        return BadRow(number, "not a JSON object")
    keys.see(value)
    time = None if columns.time is None else time_of(value.get(columns.time))
    return Row(number, value.get(columns.text), value.get(columns.label), time)


class _Keys:
    """The keys of a file's objects, gathered from its blocks in whatever order they are parsed."""

    def __init__(self, name: str, columns: Columns) -> None:
        self.name = name
        self.columns = columns
        self._seen: dict[str, None] = {}  # in their order; a set has none
        self._objects = 0
        self._has_all = False
        self._expected = {END}  # the blocks that are not parsed yet, by their first lines
        self._lock = threading.Lock()

    def expect(self, block: int) -> None:
        with self._lock:
            self._expected.add(block)

    def see(self, keys: Collection[str]) -> None:
        if self._objects >= SHOWN_OBJECTS and self._has_all:
            return
        with self._lock:
            self._objects += 1
            shown = keys if self._objects <= SHOWN_OBJECTS else [key for key in self.columns.names if key in keys]
            self._seen.update(dict.fromkeys(shown))
            self._has_all = self._seen.keys() >= set(self.columns.names)

    def has(self, column: str) -> bool:
        return column in self._seen

    def judge(self, block: int) -> None:
        """:raises BadInput: with this block the whole file is known, and no object has one of the columns."""
        with self._lock:
            self._expected.discard(block)
            if self._expected or not self._objects:
                return
        for key, wanted in self.columns._asdict().items():
            if wanted is not None and wanted not in self._seen:
                raise missing_column(self.name, key, wanted, self._seen)
