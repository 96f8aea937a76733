"""
Parse lines of JSON into columns, with Arrow's reader.

It is strict (no trailing commas, no key of ours twice, no half of a character) and says which line it stopped at. What
it takes for JSON although Python does not, and lines that are no object each, ``Lines`` finds beforehand. So a line is
either read here exactly as ``json.loads`` reads it, or left to be read by that.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sources.part import Columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

ATTEMPTS = 16  # assumed: with more lines to leave out, Python is no slower than starting again after each of them
DEEPEST = 100  # brackets that open in a line; Python gives up at about a thousand levels, Arrow at none
LARGEST_WHOLE = 2**53 - 1  # of the whole numbers that a double can be
WINDOW = 1 << 18  # measured: bytes that stay in the processor's cache halve the time of looking at them

_STOPPED = re.compile(r" in row (\d+)")
_NO_NUMBER = re.compile(rb"-NaN|Inf[ \t\r\n,\]}]")  # but Arrow takes it for one
_DIGITS_TO_ZEROS = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(128)) + bytes(range(128, 256))


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of one buffer, each with its end."""

    content: bytes  # ends with a newline
    offsets: np.ndarray  # where each line begins, and where the last ends
    odd: np.ndarray  # whether Arrow must not see the line

    @classmethod
    def of(cls, content: bytes) -> Lines:
        import numpy as np

        if not content.endswith(b"\n"):
            content += b"\n"
        data = np.frombuffer(content, np.uint8)
        ends, numbers, openings = _scanned(data)
        lines = cls(content, np.concatenate([[0], ends + 1]), np.zeros(len(ends), bool))
        first, last = data[lines.offsets[:-1]], data[np.maximum(ends - 1, 0)]
        last = np.where(last == ord("\r"), data[np.maximum(ends - 2, 0)], last)
        lines.odd[(first != ord("{")) | (last != ord("}"))] = True
        third = data[np.minimum(numbers + 2, len(data) - 1)]
        numbers = numbers[(third == ord("f")) | (third == ord("a"))]
        lines._leave_out([at for at in numbers.tolist() if _NO_NUMBER.match(content, at)])
        if b"\0" in content:  # for Arrow the end of everything
            lines._leave_out(np.flatnonzero(data == 0))
        if openings > len(lines) + DEEPEST:
            lines._leave_out_deep(np.flatnonzero((data & 0xDF) == ord("[")))
        lines._leave_out_long_integers()
        return lines

    def __len__(self) -> int:
        return len(self.odd)

    def __getitem__(self, at: int) -> bytes:
        return self.content[self.offsets[at] : self.offsets[at + 1]]

    def _leave_out(self, positions: np.ndarray | list[int]) -> None:
        self.odd[self.offsets.searchsorted(positions, "right") - 1] = True

    def _leave_out_deep(self, openings: np.ndarray) -> None:
        import numpy as np

        self.odd[np.diff(openings.searchsorted(self.offsets)) > DEEPEST] = True

    def _leave_out_long_integers(self) -> None:
        """Python refuses to read more digits than this, lest a number keep it busy for ever."""
        import numpy as np

        longest = sys.get_int_max_str_digits()
        too_many = b"0" * (longest + 1)
        for at in np.flatnonzero(np.diff(self.offsets) > longest).tolist() if longest else ():
            if too_many in self[at].translate(_DIGITS_TO_ZEROS):
                self.odd[at] = True


def _scanned(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """:return: where newlines are, and what begins as Inf or -NaN do; how many brackets open."""
    import numpy as np

    newlines, numbers, openings = [], [], 0
    for start in range(0, len(data), WINDOW):
        here, after = data[start : start + WINDOW], data[start + 1 : start + 1 + WINDOW]
        newlines.append(np.flatnonzero(here == ord("\n")) + start)
        openings += int(np.count_nonzero((here & 0xDF) == ord("[")))  # also {, which differs in this bit
        here = here[: len(after)]
        named = ((here == ord("I")) & (after == ord("n"))) | ((here == ord("-")) & (after == ord("N")))
        numbers.append(np.flatnonzero(named) + start)
    return np.concatenate(newlines), np.concatenate(numbers), openings


def parse_lines(lines: Lines, columns: Columns) -> Iterator[tuple[np.ndarray, pyarrow.Table]]:
    """
    Parse the lines whose text is a string and whose label is a string, a whole number or a boolean.

    :return: which lines, and their columns; a line that is in none is still to be read.
    """
    import numpy as np
    import pyarrow

    at = np.flatnonzero(~lines.odd)
    if not len(at):
        return
    buffers = [None, pyarrow.py_buffer(lines.offsets), pyarrow.py_buffer(lines.content)]
    held = pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(lines), buffers)
    if len(at) < len(lines):
        held = held.take(pyarrow.array(at))
    table, _ = _read(held, dict.fromkeys(columns.names, pyarrow.string()))
    if table is not None:
        yield _usable(at, table, columns)
        return
    for alike, types in _by_types(held, columns):
        places = at[alike.to_numpy(zero_copy_only=False)]
        for start, table in _read_between(held.filter(alike), types):
            yield _usable(places[start : start + len(table)], table, columns)


def _read(lines: pyarrow.Array, types: dict[str, pyarrow.DataType]) -> tuple[pyarrow.Table | None, int | None]:
    """:return: a row for each line; or None, and the first line that cannot be read, if that is known."""
    import numpy as np
    import pyarrow
    from pyarrow import json as arrow_json

    _validity, offsets, content = lines.buffers()
    begin, end = np.frombuffer(offsets, np.int64)[[lines.offset, lines.offset + len(lines)]].tolist()
    try:
        table = arrow_json.read_json(
            pyarrow.BufferReader(content.slice(begin, end - begin)),
            arrow_json.ReadOptions(use_threads=False, block_size=end - begin + 1),
            arrow_json.ParseOptions(explicit_schema=pyarrow.schema(types), unexpected_field_behavior="ignore"),
        )
    except pyarrow.ArrowInvalid as error:
        stopped = _STOPPED.search(str(error))
        return None, int(stopped[1]) if stopped else None
    # Every line begins and ends as an object does, so that no object goes on in the next line: as many rows as lines
    # are one of each.
    return (table if len(table) == len(lines) else None), None


def _read_between(lines: pyarrow.Array, types: dict[str, pyarrow.DataType]) -> Iterator[tuple[int, pyarrow.Table]]:
    """:return: from which line on, and the rows; the lines that cannot be read are left out."""
    start = 0
    for _attempt in range(ATTEMPTS):
        rest = lines.slice(start)
        table, stopped = _read(rest, types) if len(rest) else (None, None)
        if table is not None:
            yield start, table
        if stopped is None:
            return
        if stopped:
            table, _ = _read(rest.slice(0, stopped), types)
            if table is not None:
                yield start, table
        start += stopped + 1


def _by_types(lines: pyarrow.Array, columns: Columns) -> Iterator[tuple[pyarrow.Array, dict[str, pyarrow.DataType]]]:
    """
    Sort the lines by the types that their label and time seem to have; a wrong guess costs time alone.

    :return: which lines, and the types.
    """
    import pyarrow
    import pyarrow.compute as pc

    def begins(column: str, value: str) -> pyarrow.Array:
        spelt = "|".join(re.escape(json.dumps(column, ensure_ascii=ascii_only)) for ascii_only in (True, False))
        return pc.match_substring_regex(lines, rf"(?:{spelt})\s*:\s*{value}")

    is_string, is_boolean = begins(columns.label, '"'), begins(columns.label, "[tf]")
    is_number = pc.invert(pc.or_(is_string, is_boolean))
    groups = [(is_string, pyarrow.string()), (is_boolean, pyarrow.bool_()), (is_number, pyarrow.float64())]
    times: list[tuple[pyarrow.Array | None, dict[str, pyarrow.DataType]]] = [(None, {})]
    if columns.time is not None and columns.time not in columns[:2]:
        is_text = begins(columns.time, '"')
        times = [
            (is_text, {columns.time: pyarrow.string()}),
            (pc.invert(is_text), {columns.time: pyarrow.float64()}),
        ]
    for alike, label in groups:
        for also, time in times:
            both = alike if also is None else pc.and_(alike, also)
            if pc.any(both).as_py():
                yield both, {columns.text: pyarrow.string(), columns.label: label, **time}


def _usable(at: np.ndarray, table: pyarrow.Table, columns: Columns) -> tuple[np.ndarray, pyarrow.Table]:
    """:return: the lines that have a text and a label, and no byte in them that is no character."""
    import numpy as np
    import pyarrow
    from pyarrow import types

    usable = np.ones(len(table), bool)
    for index, name in enumerate(table.column_names):
        values = table[name].combine_chunks()
        if values.null_count and name in (columns.text, columns.label):
            usable &= values.is_valid().to_numpy(zero_copy_only=False)
        if types.is_string(values.type):
            usable[_not_utf8(values)] = False
        elif name == columns.label and types.is_floating(values.type):
            numbers = values.to_numpy(zero_copy_only=False)
            is_whole = (np.abs(numbers) <= LARGEST_WHOLE) & (np.floor(numbers) == numbers)
            usable &= is_whole
            whole = pyarrow.array(np.where(is_whole, numbers, 0).astype(np.int64))
            table = table.set_column(index, name, whole)
    return (at, table) if usable.all() else (at[usable], table.filter(usable))


def _not_utf8(values: pyarrow.Array) -> list[int]:
    """:return: the places of those with bytes that are no characters."""
    import pyarrow

    try:
        values.validate(full=True)
    except pyarrow.ArrowInvalid:
        if len(values) == 1:
            return [0]
        half = len(values) // 2
        return _not_utf8(values.slice(0, half)) + [half + at for at in _not_utf8(values.slice(half))]
    return []
