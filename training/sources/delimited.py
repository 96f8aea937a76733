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
from training.sources.delimited_rows import Content, Layout, Rows
from training.sources.part import BadRow, Batch, Block, Columns
from training.sources.times import times_of
from training.sources.unicode import skip_mark

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

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
    while block := content.take(part.BLOCK_BYTES):
        clean = _clean_rows(block, ord(delimiter), is_last=content.is_exhausted)
        if clean is not None:
            content.give_back(memoryview(block)[clean.size :])
            yield _Block(block[: clean.size], line, clean, columns, layout, delimiter)
            line += clean.newlines
        else:
            content.give_back(block)
            rows = Rows(content, delimiter, line)
            yield Parsed(batch_of(rows.read(layout, len(block)), columns))
            line = rows.stop()


@dataclass(frozen=True, eq=False)
class _Clean:
    """The whole rows at the beginning of a block."""

    size: int
    newlines: int
    lines: np.ndarray  # newlines before each row that is not an empty line


def _clean_rows(block: bytes, delimiter: int, *, is_last: bool) -> _Clean | None:
    """:return: None: these bytes can be read in more than one way."""
    import numpy as np

    if b"\0" in block or block.startswith(codecs.BOM_UTF8):
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
    return _Clean(size, len(newlines), newlines.searchsorted(begins))


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
        import pyarrow

        try:
            table = self._read()
        except pyarrow.ArrowInvalid:  # a row of another width, or bytes that are no characters where they matter
            rows = Rows(Content(io.BytesIO(self.content), ""), self.delimiter, self.line)
            return batch_of(rows.read(self.layout, len(self.content)), self.columns)
        _width, text, label, time = self.layout
        times = None if time is None else times_of(table[str(time)].combine_chunks())
        lines = self.clean.lines + self.line
        return batch_of((), self.columns, table_of(lines, table[str(text)], table[str(label)], times))

    def _read(self) -> pyarrow.Table:
        import pyarrow
        from pyarrow import csv

        wanted = [str(at) for at in dict.fromkeys(self.layout[1:]) if at is not None]
        names = [str(at) for at in range(self.layout.width)]
        return csv.read_csv(
            pyarrow.BufferReader(self.content),
            csv.ReadOptions(use_threads=False, block_size=len(self.content) + 1, column_names=names),
            csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pyarrow.large_string())),
        )
