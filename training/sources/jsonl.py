"""
Read JSON Lines: one object on each line.

msgspec reads the columns that are asked for and skips the others; a line that it refuses is read by Python, which says
what is wrong with it. What msgspec takes, Python reads in the same way (tested).
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from training.contract import BadInput
from training.rows import Unusable, label_of
from training.sources import part
from training.sources.blocks import batch_of, table_of
from training.sources.part import LONGEST_LINE, BadRow, Batch, Block, Columns, Row, missing_column
from training.sources.times import time_of, times_of
from training.sources.unicode import skip_mark

if TYPE_CHECKING:
    import pyarrow

SHOWN_OBJECTS = 1000  # whose keys are told when one is missing
END = 0  # of the file, where blocks have the number of their first line


class Line(msgspec.Struct, gc=False):
    """The columns of a line, whatever they are called in the file; what is not there is UNSET."""

    text: Any = UNSET
    label: Any = UNSET
    time: Any = UNSET


UNREAD = Line()  # for Python to read


def read_jsonl(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: no object of the file has one of the columns, which is known when all blocks are parsed."""
    skip_mark(stream, name)
    keys = _Keys(name, columns)
    decode = _decoder(columns)
    number = 1
    while content := stream.read(part.BLOCK_BYTES):
        if not content.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
            if len(rest) == LONGEST_LINE:
                raise BadInput(f"{name}: a line of more than {LONGEST_LINE:,} bytes. Nothing was kept. Is this JSONL?")
            content += rest
        keys.expect(number)
        yield _Block(content, number, columns, keys, decode)
        number += content.count(b"\n")
    keys.judge(END)


def _decoder(columns: Columns) -> Callable[[bytes], Any] | None:
    """:return: None: the columns' names are too odd for msgspec, or one column is asked for twice."""
    names = {field: name for field, name in columns._asdict().items() if name is not None}
    if len(set(names.values())) < len(names):
        return None
    fields = [(field, Any, UNSET) for field in names]
    try:
        line = msgspec.defstruct("Line", fields, bases=(Line,), rename=names, gc=False)
    except ValueError:
        return None
    return msgspec.json.Decoder(line).decode


@dataclass(frozen=True)
class _Block:
    content: bytes  # whole lines
    first: int  # the number of the first line
    columns: Columns
    keys: _Keys
    decode: Callable[[bytes], Any] | None

    def parse(self) -> Batch:
        lines = self.content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        rows = self._decoded(lines)
        # is a time that no row has not there, or misspelt? With Python the keys that are there come to light
        is_timed = self.columns.time is None or self.keys.has(self.columns.time)
        if not is_timed and all(row.time is UNSET for row in rows):
            rows = [UNREAD] * len(lines)
        names = _names([row.label for row in rows])
        held = [at for at, row in enumerate(rows) if type(row.text) is str and names[at] is not None]
        tables = []
        if held:
            self.keys.see(self.columns.names)
            tables.append(self._table(rows, names, held))
        left = sorted(set(range(len(rows))).difference(held)) if len(held) < len(rows) else ()
        others = (_read_line(self.first + at, lines[at], self.columns, self.keys) for at in left)
        batch = batch_of((row for row in others if row is not None), self.columns, *tables)
        self.keys.judge(self.first)
        return batch

    def _decoded(self, lines: Sequence[bytes]) -> Sequence[Line]:
        if self.decode is None:
            return [UNREAD] * len(lines)
        longest = sys.get_int_max_str_digits()  # Python refuses more, lest a number keep it busy for ever
        if longest and max(map(len, lines), default=0) > longest:
            lines = [line if len(line) <= longest else b"" for line in lines]
        rows: list[Line] = []
        rest = iter(lines)
        while len(rows) < len(lines):
            try:
                rows.extend(map(self.decode, rest))  # what was read before an error stays
            except (ValueError, RecursionError):  # msgspec's own errors are the former
                rows.append(UNREAD)
        return rows

    def _table(self, rows: Sequence[Line], names: Sequence[str | None], held: Sequence[int]) -> pyarrow.Table:
        import numpy as np
        import pyarrow

        if len(held) < len(rows):
            rows, names = [rows[at] for at in held], [names[at] for at in held]
        texts = pyarrow.array([row.text for row in rows], pyarrow.large_string())
        times = None if self.columns.time is None else _times([row.time for row in rows])
        return table_of(np.array(held) + self.first, texts, pyarrow.array(names, pyarrow.large_string()), times)


def _names(labels: Sequence[Any]) -> Sequence[str | None]:
    """:return: what the labels are called; None: the label has to be looked at."""
    if set(map(type, labels)) == {str}:
        return labels
    return [label if type(label) is str else _name(label) for label in labels]


def _name(label: object) -> str | None:
    if not isinstance(label, bool | int | float):
        return None
    try:
        return label_of(label)
    except Unusable:
        return None


def _times(values: Sequence[Any]) -> pyarrow.Array:
    """:return: as ``time_of`` for each value: timestamp[us, UTC]."""
    import pyarrow

    values = [None if value is UNSET else value for value in values]
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return times_of(pyarrow.array(values, pyarrow.large_string()))
    return pyarrow.array([time_of(value) for value in values], pyarrow.timestamp("us", "UTC"))


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
