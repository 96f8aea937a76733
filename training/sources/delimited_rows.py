"""Read CSV and TSV row by row, whatever is in them."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO, NamedTuple

from training.contract import BadInput
from training.sources.part import LONGEST_LINE, BadRow, Columns, Row, check_columns
from training.sources.times import time_of

LONGEST_FIELD = 16 << 20  # assumed, in characters: longer than any text, short enough to be held and read again
BROKEN_QUOTE = "broken quote"
_PIECE_BYTES = 1 << 16


class Layout(NamedTuple):
    """Where the columns are."""

    width: int
    text: int
    label: int
    time: int | None
    keep: tuple[int, ...] = ()

    @property
    def wanted(self) -> list[int]:
        """:return: the columns to read, each once."""
        return list(dict.fromkeys(at for at in (self.text, self.label, self.time, *self.keep) if at is not None))


class Content:
    """The bytes of a stream, which can be given back."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        self._stream = stream
        self._has_ended = False
        self._again: list[memoryview] = []  # the next one last

    def take(self, size: int) -> bytes:
        """:return: as many bytes, or all that are left."""
        taken: list[bytes | memoryview] = []
        missing = size
        while missing and self._again:
            piece = self._again.pop()
            if len(piece) > missing:
                self._again.append(piece[missing:])
                piece = piece[:missing]
            taken.append(piece)
            missing -= len(piece)
        if missing and not self._has_ended:
            taken.append(self._stream.read(missing))
            self._has_ended = len(taken[-1]) < missing
        return b"".join(taken)

    def give_back(self, content: bytes | memoryview) -> None:
        if content:
            self._again.append(memoryview(content))

    @property
    def is_exhausted(self) -> bool:
        return self._has_ended and not self._again


class Rows:
    """
    The rows from here on.

    An opening quote that nobody closes makes the parser swallow what follows; then only the first line is at fault and
    the others are read again. For that the lines of a row are remembered until it is whole.

    :param line: number of the next line.
    """

    def __init__(self, content: Content, delimiter: str, line: int) -> None:
        csv.field_size_limit(LONGEST_FIELD)  # of the whole process; 131,072 unless told
        self._content = content
        self._delimiter = delimiter
        self._line = line
        self._size = 0  # of the rows that were read
        self._split = deque[bytes]()  # lines to come
        self._piece = b""  # of a line whose end is not known yet
        self._taken: list[bytes] = []  # lines of the row that is being read
        self._parser = self._new_parser()

    def header(self, columns: Columns) -> Layout | None:
        """
        Read the first row.

        :return: None: there is no row.
        :raises BadInput: it does not name the columns.
        """
        while (found := self._next()) is not None:
            values = found[1]
            if values and not isinstance(values, str):
                names = [value.strip() for value in values]
                check_columns(self._content.name, names, columns)
                time = None if columns.time is None else names.index(columns.time)
                kept = tuple(map(names.index, columns.keep))
                return Layout(len(names), names.index(columns.text), names.index(columns.label), time, kept)
        return None

    def read(self, layout: Layout, size: int) -> Iterator[Row | BadRow]:
        """:return: the rows that begin within the next ``size`` bytes."""
        while self._size < size and (found := self._next()) is not None:
            number, values = found
            if isinstance(values, str):
                yield BadRow(number, values)
            elif values and len(values) != layout.width:
                yield BadRow(number, "wrong number of columns")
            elif values:
                time = None if layout.time is None else time_of(values[layout.time])
                kept = tuple(values[at] for at in layout.keep)
                yield Row(number, values[layout.text], values[layout.label], time, kept)

    def stop(self) -> int:
        """
        Give back what was not read.

        :return: the number of the next line.
        """
        self._content.give_back(self._piece)
        self._content.give_back(b"".join(self._split))
        self._piece = b""
        self._split.clear()
        return self._line

    def _next(self) -> tuple[int, list[str] | str] | None:
        """:return: the line that the row begins in, and its values, none of an empty line, or what is wrong with it."""
        number = self._line
        try:
            values = next(self._parser)
        except StopIteration:
            return None
        except csv.Error as error:
            # over many lines, a field that is too long is a quote that nobody closes
            too_long = len(self._taken) == 1 and str(error).startswith("field larger than")
            self._read_again_all_but_first()
            self._parser = self._new_parser()
            return number, "field too long" if too_long else BROKEN_QUOTE
        if self._delimiter == "\t" and any("\t" in value and ("\n" in value or "\r" in value) for value in values):
            # written without quoting: the quote belongs to the text, and the parser took the rows after it for one
            self._read_again_all_but_first()
            return number, BROKEN_QUOTE
        self._line += len(self._taken)
        self._size += sum(map(len, self._taken))
        self._taken.clear()
        return number, values

    def _new_parser(self) -> Iterator[list[str]]:
        return csv.reader(iter(self._next_line, None), delimiter=self._delimiter, strict=True)

    def _read_again_all_but_first(self) -> None:
        self._split.extendleft(reversed(self._taken[1:]))
        self._line += 1
        self._size += len(self._taken[0])
        self._taken.clear()

    def _next_line(self) -> str | None:
        while not self._split:
            if self._content.is_exhausted and not self._piece:
                return None
            self._split_more()
        line = self._split.popleft()
        self._taken.append(line)
        # undecodable bytes survive as surrogates: they matter only in the columns that are used
        return line.decode("utf-8", "surrogateescape")

    def _split_more(self) -> None:
        pieces = [self._piece]
        size = len(self._piece)
        while piece := self._content.take(_PIECE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if b"\n" in piece or b"\r" in piece:
                break
            if size > LONGEST_LINE:
                raise BadInput(
                    f"{self._content.name}, line {self._line}: longer than {LONGEST_LINE:,} bytes. Nothing was kept. "
                    "Is this a file of rows and columns?"
                )
        lines = b"".join(pieces).splitlines(keepends=True)
        # a carriage return may be half of a line end, whose other half is still to come
        is_open = bool(lines) and not lines[-1].endswith(b"\n") and not self._content.is_exhausted
        self._piece = lines.pop() if is_open else b""
        self._split.extend(lines)
