"""
Read JSON Lines: one object on each line.

msgspec reads the columns that are asked for and skips the others; a line that it refuses is read by Python, which says
what is wrong with it. What msgspec takes, Python reads in the same way (tested).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from training.contract import BadInput
from training.rows import Unusable, label_of
from training.sources import part
from training.sources.blocks import batch_of, table_of
from training.sources.objects import Stretch, stretch_of
from training.sources.part import LONGEST_LINE, BadRow, Batch, Block, Columns, Row
from training.sources.times import time_of, times_of
from training.sources.unicode import skip_mark

if TYPE_CHECKING:
    import pyarrow

SHOWN_LINES = 1000  # of a block, whose keys are told when one is missing


class Line(msgspec.Struct, gc=False):
    """The columns of a line, whatever they are called in the file; what is not there is UNSET."""

    text: Any = UNSET
    label: Any = UNSET
    time: Any = UNSET


UNREAD = Line()  # for Python to read


def read_jsonl(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: this is no JSONL. A column that no row has is for ``check_keys`` to find."""
    skip_mark(stream, name)
    number = 1
    while True:
        begin = stream.tell() if stream.seekable() else 0
        if not (content := stream.read(part.BLOCK_BYTES)):
            return
        if not content.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
            if len(rest) == LONGEST_LINE:
                raise BadInput(f"{name}: a line of more than {LONGEST_LINE:,} bytes. Nothing was kept. Is this JSONL?")
            content += rest
        yield _Block(content, number, columns, stretch_of(stream, begin, len(content)))
        number += content.count(b"\n")


@lru_cache
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
    content: bytes | Stretch  # whole lines
    first: int  # the number of the first line
    columns: Columns
    place: Stretch | None = None  # where the content is read again

    def __reduce__(self) -> tuple[Any, ...]:
        return _Block, (self.place or self.content, self.first, self.columns)

    def parse(self) -> Batch:
        content = self.content if isinstance(self.content, bytes) else self.content.read()
        lines = content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        rows = self._decoded(lines)
        names = _names([row.label for row in rows])
        texts = [row.text for row in rows]
        held: Sequence[int] = range(len(rows))
        if set(map(type, texts)) != {str} or None in names:
            held = [at for at in held if type(texts[at]) is str and names[at] is not None]
        tables = [self._table(rows, names, held)] if held else []
        left = sorted(set(range(len(rows))).difference(held)) if len(held) < len(rows) else ()
        others = (read_line(self.first + at, lines[at], self.columns) for at in left)
        batch = batch_of((row for row in others if row is not None), self.columns, *tables)
        keys = self.columns.names
        if not held or (self.columns.time is not None and all(row.time is UNSET for row in rows)):
            keys = keys_of([*lines[:SHOWN_LINES], *(lines[at] for at in left)], keys[:2] if held else ())
        return replace(batch, keys=keys)

    def _decoded(self, lines: Sequence[bytes]) -> Sequence[Line]:
        decode = _decoder(self.columns)
        if decode is None:
            return [UNREAD] * len(lines)
        longest = sys.get_int_max_str_digits()  # Python refuses more, lest a number keep it busy for ever
        if longest and max(map(len, lines), default=0) > longest:
            lines = [line if len(line) <= longest else b"" for line in lines]
        rows: list[Line] = []
        rest = iter(lines)
        while len(rows) < len(lines):
            try:
                rows.extend(map(decode, rest))  # what was read before an error stays
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
        return table_of(np.asarray(held) + self.first, texts, pyarrow.array(names, pyarrow.large_string()), times)


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


def read_line(number: int, line: bytes, columns: Columns) -> Row | BadRow | None:
    """:return: None: the line is blank."""
    if not line.strip():
        return None
    try:
        value = _read(line)
    except (ValueError, RecursionError):
        return BadRow(number, "broken JSON")
    if not isinstance(value, dict):
        return BadRow(number, "not a JSON object")
    time = None if columns.time is None else time_of(value.get(columns.time))
    return Row(number, value.get(columns.text), value.get(columns.label), time)


def keys_of(lines: Iterable[bytes], known: Iterable[str] = ()) -> list[str]:
    """:return: the keys of the objects in their order, after those that are known."""
    keys = dict.fromkeys(known)
    for line in lines:
        with suppress(ValueError, RecursionError):
            value = _read(line)
            keys.update(dict.fromkeys(value if isinstance(value, dict) else ()))
    return list(keys)


def _read(line: bytes) -> Any:
    # undecodable bytes survive as surrogates: they matter only in the columns that are used
    return json.loads(line.decode("utf-8", "surrogateescape"))
