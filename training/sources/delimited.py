"""Read CSV and TSV row by row; a broken row costs its own line, never the rows after it."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator

from training.sources.part import BadRow, Columns, Row, check_columns
from training.sources.unicode import check_is_utf8

LONGEST_FIELD = 16 << 20  # assumed, in characters: longer than any text, short enough to be held and read again


class _Lines:
    """
    Physical lines, remembered until the row they belong to is whole.

    An opening quote that nobody closes makes the parser swallow what follows; then only the first line is at fault and
    the others are given back.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.number = 1  # of the line where the current row begins
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._taken: list[str] = []

    @property
    def in_one(self) -> bool:
        """:return: whether the current row has one line so far."""
        return len(self._taken) == 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        return line

    def next_row(self) -> None:
        self.number += len(self._taken)
        self._taken.clear()

    def give_back_all_but_first(self) -> None:
        self._again.extendleft(reversed(self._taken[1:]))
        self._taken.clear()
        self.number += 1


def read_delimited(stream: io.BufferedReader, name: str, columns: Columns, *, delimiter: str) -> Iterator[Row | BadRow]:
    """:raises BadInput: a column is missing, or the file is no UTF-8 at all."""
    check_is_utf8(stream, name)
    csv.field_size_limit(LONGEST_FIELD)  # of the whole process; 131,072 unless told
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _read_rows(_Lines(text), name, columns, delimiter)


def _read_rows(lines: _Lines, name: str, columns: Columns, delimiter: str) -> Iterator[Row | BadRow]:
    header: list[str] | None = None
    text = label = 0
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            values = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            # over many lines, a field that is too long is a quote that nobody closes
            too_long = lines.in_one and str(error).startswith("field larger than")
            if header is not None:
                yield BadRow(lines.number, "field too long" if too_long else "broken quote")
            lines.give_back_all_but_first()
            rows = csv.reader(lines, delimiter=delimiter, strict=True)
            continue
        if not values:  # an empty line
            pass
        elif delimiter == "\t" and any("\t" in value and ("\n" in value or "\r" in value) for value in values):
            # written without quoting: the quote belongs to the text, and the parser took the rows after it for one
            if header is not None:
                yield BadRow(lines.number, "broken quote")
            lines.give_back_all_but_first()
            continue
        elif header is None:
            header = [value.strip() for value in values]
            check_columns(name, header, columns)
            text, label = header.index(columns.text), header.index(columns.label)
        elif len(values) != len(header):
            yield BadRow(lines.number, "wrong number of columns")
        else:
            yield Row(lines.number, values[text], values[label])
        lines.next_row()
    if header is None:
        yield BadRow(0, "empty file")
