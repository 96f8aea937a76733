"""
Read CSV and TSV; a broken row costs its own line, never the rows after it.

Arrow parses a block when every quote in it is where the format has one. Any other block is read row by row
(``training.sources.delimited_rows``), because what a misplaced quote means depends on what follows it.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sources import part
from training.sources.blocks import Parsed, batch_of, table_of
from training.sources.columnar import kept_strings
from training.sources.delimited_rows import Content, Layout, Rows
from training.sources.part import BadRow, Batch, Block, Columns, Row
from training.sources.times import times_of
from training.sources.unicode import skip_mark

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

PIECES = 16  # of a block, so that one bad row does not make all of them slow

_QUOTE, _NEWLINE, _RETURN, _TAB = b'"\n\r\t'


def read_delimited(stream: io.BufferedReader, name: str, columns: Columns, *, delimiter: str) -> Iterator[Block]:
    """:raises BadInput: a column is missing, or the file is no UTF-8 at all."""
    skip_mark(stream, name)
    content = Content(stream, name)
    rows = Rows(content, delimiter, 1)
    layout = rows.header(columns)
    line = rows.stop()
    if layout is None:
        yield Parsed(batch_of([BadRow(0, "empty file")], columns))
        return
    pieces = 0  # to read before the next whole block
    while block := content.take(part.BLOCK_BYTES // PIECES + 1 if pieces else part.BLOCK_BYTES):
        clean = _clean_rows(block, ord(delimiter), is_last=content.is_exhausted)
        if clean is not None:
            content.give_back(memoryview(block)[clean.size :])
            yield _Block(block[: clean.size], line, clean, columns, layout, delimiter)
            line += clean.newlines
        else:
            content.give_back(block)
            if not pieces:
                pieces = PIECES
                continue
            rows = Rows(content, delimiter, line)
            yield Parsed(batch_of(rows.read(layout, len(block)), columns))
            line = rows.stop()
        pieces = max(0, pieces - 1)


@dataclass(frozen=True, eq=False)
class _Clean:
    """The whole rows at the beginning of a block."""

    size: int
    newlines: int
    begins: np.ndarray  # where there is a row that is not an empty line
    lines: np.ndarray  # newlines before each of them


def _clean_rows(block: bytes, delimiter: int, *, is_last: bool) -> _Clean | None:
    """:return: None: these bytes can be read in more than one way."""
    import numpy as np

    if b"\0" in block:
        return None
    data = np.frombuffer(block, np.uint8)
    quotes, newlines = np.flatnonzero(data == _QUOTE), np.flatnonzero(data == _NEWLINE)
    is_end = quotes.searchsorted(newlines) % 2 == 0 if len(quotes) else np.ones(len(newlines), bool)
    ends = newlines[is_end] + 1
    size = len(block) if is_last and len(quotes) % 2 == 0 else int(ends[-1]) if len(ends) else 0
    if not size:
        return None
    data, quotes, newlines = data[:size], quotes[quotes < size], newlines[newlines < size]
    if len(quotes) and not (_are_quotes_in_place(data, quotes, delimiter) and _are_tabs_apart(data, quotes, delimiter)):
        return None
    if b"\r" in block:
        returns = np.flatnonzero(data == _RETURN)
        if len(returns) and (returns[-1] + 1 == size or (data[returns + 1] != _NEWLINE).any()):
            return None
    begins = np.concatenate([[0], ends[ends < size]])
    begins = begins[(data[begins] != _NEWLINE) & (data[begins] != _RETURN)]
    return _Clean(size, len(newlines), begins, newlines.searchsorted(begins))


def _are_quotes_in_place(data: np.ndarray, quotes: np.ndarray, delimiter: int) -> bool:
    """:return: whether each field is quoted from its beginning to its end, and the quotes within it are doubled."""
    import numpy as np

    opening, closing = quotes[::2], quotes[1::2]
    doubled = np.append(opening[1:] == closing[:-1] + 1, False)  # the closing one, with the opening one after it
    before = data[opening - 1]  # of the first byte: whatever the last one is
    begins = (before == delimiter) | (before == _NEWLINE) | (opening == 0)
    begins[1:] |= doubled[:-1]
    after = data[np.minimum(closing + 1, len(data) - 1)]
    ends = (after == delimiter) | (after == _NEWLINE) | (after == _RETURN) | (closing + 1 == len(data)) | doubled
    return bool(begins.all() and ends.all())


def _are_tabs_apart(data: np.ndarray, quotes: np.ndarray, delimiter: int) -> bool:
    """
    In a TSV file that was written without quoting, quotes belong to the texts, and rows may seem to be one field.

    :return: whether quotes enclose tabs or newlines, not both.
    """
    import numpy as np

    if delimiter != _TAB:
        return True
    return not all((quotes.searchsorted(np.flatnonzero(data == byte)) % 2).any() for byte in (_TAB, _NEWLINE))


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows whose quotes are all in their places."""

    content: bytes
    line: int  # the number of its first line
    clean: _Clean
    columns: Columns
    layout: Layout
    delimiter: str

    def parse(self) -> Batch:
        rows = len(self.clean.begins)
        table = self._columns(0, rows) if rows else None
        if table is not None:
            return batch_of((), self.columns, table)
        tables: list[pyarrow.Table] = []
        others: list[Row | BadRow] = []
        step = rows // PIECES + 1
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            table = self._columns(start, stop)
            if table is None:
                others += self._rows(start, stop)
            else:
                tables.append(table)
        return batch_of(others, self.columns, *tables)

    def _columns(self, start: int, stop: int) -> pyarrow.Table | None:
        """:return: None: a row is of another width, or has bytes that are no characters where it matters."""
        import pyarrow

        content = self._between(start, stop)
        if content[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8:  # Arrow would take it off
            return None
        try:
            table = self._parsed(content)
        except pyarrow.ArrowInvalid:
            return None
        _width, text, label, time, keep = self.layout
        times = None if time is None else times_of(table[str(time)].combine_chunks())
        kept = {
            name: kept_strings(table[str(at)].combine_chunks())
            for name, at in zip(self.columns.keep, keep, strict=True)
        }
        return table_of(self.clean.lines[start:stop] + self.line, table[str(text)], table[str(label)], times, kept)

    def _rows(self, start: int, stop: int) -> Iterator[Row | BadRow]:
        content = self._between(start, stop)
        rows = Rows(Content(io.BytesIO(content), ""), self.delimiter, self.line + int(self.clean.lines[start]))
        return rows.read(self.layout, len(content))

    def _between(self, start: int, stop: int) -> memoryview:
        begins = self.clean.begins
        end = begins[stop] if stop < len(begins) else self.clean.size
        return memoryview(self.content)[begins[start] : end]

    def _parsed(self, content: memoryview) -> pyarrow.Table:
        import pyarrow
        from pyarrow import csv

        wanted = [str(at) for at in self.layout.wanted]
        names = [str(at) for at in range(self.layout.width)]
        return csv.read_csv(
            pyarrow.BufferReader(content),
            csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
            csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pyarrow.large_string())),
        )
