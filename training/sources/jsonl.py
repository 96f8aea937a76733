"""
Read JSON Lines: one object on each line.

msgspec reads the columns that are asked for and skips the others; a line that it refuses is read by Python, which says
what is wrong with it. What msgspec takes, Python reads in the same way (tested).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from training.contract import BadInput
from training.rows import Unusable, label_of
from training.sources import part
from training.sources.blocks import batch_of, kept_column, table_of
from training.sources.objects import Stretch, space, stretch_of
from training.sources.part import LONGEST_LINE, BadRow, Batch, Block, Columns, Row
from training.sources.times import time_of, times_of
from training.sources.unicode import skip_mark

if TYPE_CHECKING:
    import pyarrow

SHOWN_LINES = 1000  # of a block, whose keys are told when one is missing


class Line(msgspec.Struct, gc=False):
    """The columns of a line, whatever they are called in the file; what is not there is UNSET. Then those to keep."""

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
        buffer = space(part.BLOCK_BYTES)
        if not (size := stream.readinto(memoryview(buffer)[: part.BLOCK_BYTES])):
            return
        rest = b"" if buffer.endswith(b"\n", 0, size) else stream.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE:
            raise BadInput(f"{name}: a line of more than {LONGEST_LINE:,} bytes. Nothing was kept. Is this JSONL?")
        place = stretch_of(stream, begin, size + len(rest))
        block = _Block(place or b"".join((memoryview(buffer)[:size], rest)), number, columns)
        number += buffer.count(b"\n", 0, size) + rest.count(b"\n")
        yield block


@lru_cache
def _decoder(columns: Columns) -> msgspec.json.Decoder[Line] | None:
    """:return: None: the columns' names are too odd for msgspec, or one column is asked for twice."""
    names = {"text": columns.text, "label": columns.label}
    if columns.time is not None:
        names["time"] = columns.time
    names |= {_field(at): name for at, name in enumerate(columns.keep)}
    if len(set(names.values())) < len(names):
        return None
    fields = [(field, Any, UNSET) for field in names]
    try:
        line = msgspec.defstruct("Line", fields, bases=(Line,), rename=names, gc=False)
    except ValueError:
        return None
    return msgspec.json.Decoder(line)


@dataclass(frozen=True)
class _Block:
    content: bytes | Stretch  # whole lines, or where they are read
    first: int  # the number of the first line
    columns: Columns

    def parse(self) -> Batch:
        content = memoryview(self.content) if isinstance(self.content, bytes) else self.content.read()
        rows = self._decoded(content)
        names = _names([row.label for row in rows])
        texts = [row.text for row in rows]
        held: Sequence[int] = range(len(rows))
        if set(map(type, texts)) != {str} or None in names:
            held = [at for at in held if type(texts[at]) is str and names[at] is not None]
        tables = [self._table(rows, names, held)] if held else []
        left = sorted(set(range(len(rows))).difference(held)) if len(held) < len(rows) else ()
        lines = _lines(content) if left else ()
        others = (read_line(self.first + at, lines[at], self.columns) for at in left)
        batch = batch_of((row for row in others if row is not None), self.columns, *tables)
        keys = self.columns.names
        fields = ["time"] if self.columns.time is not None else []
        fields += map(_field, range(len(self.columns.keep)))
        if not held or any(all(getattr(row, field, UNSET) is UNSET for row in rows) for field in fields):
            shown = _lines(content)[:SHOWN_LINES]
            keys = keys_of([*shown, *(lines[at] for at in left)], keys[:2] if held else ())
        return replace(batch, keys=keys)

    def _decoded(self, content: memoryview) -> Sequence[Line]:
        """:return: what is on each line."""
        decoder = _decoder(self.columns)
        longest = sys.get_int_max_str_digits()  # Python refuses more, lest a number keep it busy for ever
        if decoder is not None and (objects := _objects(content, longest)):
            with suppress(ValueError, RecursionError):  # msgspec's own errors are the former
                found = decoder.decode_lines(content)
                if len(found) == objects:
                    return found
        lines = _lines(content)
        if decoder is None:
            return [UNREAD] * len(lines)
        rows: list[Line] = []
        rest = (line if len(line) <= longest or not longest else b"" for line in lines)
        while len(rows) < len(lines):
            try:
                rows.extend(map(decoder.decode, rest))  # what was read before an error stays
            except (ValueError, RecursionError):
                rows.append(UNREAD)
        return rows

    def _table(self, rows: Sequence[Line], names: Sequence[str | None], held: Sequence[int]) -> pyarrow.Table:
        import numpy as np
        import pyarrow

        if len(held) < len(rows):
            rows, names = [rows[at] for at in held], [names[at] for at in held]
        texts = pyarrow.array([row.text for row in rows], pyarrow.large_string())
        times = None if self.columns.time is None else _times([row.time for row in rows])
        kept = {
            name: kept_column(getattr(row, _field(at)) for row in rows) for at, name in enumerate(self.columns.keep)
        }
        labels = pyarrow.array(names, pyarrow.large_string())
        return table_of(np.asarray(held) + self.first, texts, labels, times, kept)


def _field(place: int) -> str:
    """:return: what a column to keep is called in a line."""
    return f"kept{place}"


def _lines(content: memoryview) -> list[bytes]:
    lines = bytes(content).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _objects(content: memoryview, longest: int) -> int:
    """
    msgspec takes several lines at once for JSON with whatever white space between. Where each line begins with a brace
    and ends with one, no object goes on in the next line: there would have to be a comma at one of these places.

    :param longest: bytes of a line that may be; 0: any.
    :return: how many objects msgspec finds if each line is one; 0: not each line can be.
    """
    import numpy as np

    data = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    if not len(ends) or ends[-1] + 1 < len(data):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if longest and (ends - starts).max() > longest:
        return 0
    is_each = (data[starts] == _OPENING).all() and (data[ends - 1] == _CLOSING).all()
    return len(ends) if is_each else 0


_OPENING, _CLOSING, _NEWLINE = b"{}\n"


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
    kept = tuple(map(value.get, columns.keep))
    return Row(number, value.get(columns.text), value.get(columns.label), time, kept)


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
