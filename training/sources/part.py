"""The boundary between whoever reads rows and whoever judges them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from training.contract import BadInput, Reading, Split, Unreachable

if TYPE_CHECKING:
    import pyarrow

BLOCK_BYTES = 4 << 20  # measured: what is parsed at once; larger ones are slower, as more memory is asked for anew
LONGEST_LINE = 256 << 20  # assumed, in bytes: a file with longer ones is no text, and must not fill the memory
SHOWN_CHARACTERS = 60  # of a column's name in an error
KEPT = "kept:"  # before the name of a column that stays with each row, so that it is none of ours
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but tabs and line ends, which are in real headers


class NothingThere(BadInput):
    """The source holds no object."""


class ReadFailed(Unreachable):
    """An object could not be read now, or is not what was listed any more; a retry may find it well."""


class Row(NamedTuple):
    """The values of a row as the object has them, whatever they are."""

    number: int  # line in a text file, otherwise record, counted from 1
    text: object
    label: object
    time: datetime | None = None  # UTC
    kept: tuple[object, ...] = ()  # in the order of ``Columns.keep``


class BadRow(NamedTuple):
    """A row that could not be parsed."""

    number: int
    reason: str


class Columns(NamedTuple):
    text: str
    label: str
    time: str | None = None
    keep: tuple[str, ...] = ()  # that stay with each row

    @classmethod
    def of(cls, reading: Reading) -> Columns:
        """:return: the columns that are read; the order in which those to keep were named does not matter."""
        return cls(reading.text, reading.label, reading.time, tuple(sorted(set(reading.keep))))

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """:return: each column, with the key that asks for it."""
        single = {"text": self.text, "label": self.label, "time": self.time}
        return [(key, name) for key, name in single.items() if name is not None] + [("keep", one) for one in self.keep]

    @property
    def names(self) -> list[str]:
        """:return: the columns to read, each once."""
        return list(dict.fromkeys(name for _key, name in self.wanted))

    @property
    def kept(self) -> list[str]:
        """:return: what the columns to keep are called beside ours."""
        return [KEPT + name for name in self.keep]


@dataclass(frozen=True)
class Batch:
    """
    Consecutive rows of one object.

    What Arrow can hold as it stands is in ``rows``; what it cannot is in ``others``, row by row, to be looked at one by
    one. Together they are all rows of the batch, each once.
    """

    rows: pyarrow.Table  # row: int64, text: large_string, label: large_string; none null, all valid UTF-8
    #                      time: timestamp[us, UTC], may be null; only when a time column was asked for
    #                      kept:NAME: large_string, may be null; of each column that stays with the row
    others: Sequence[Row | BadRow] = ()
    keys: Sequence[
        str
    ] = ()  # where each row names its own columns: those that were seen, a few if all wanted are there


class Block(Protocol):
    """A stretch of an object that has been read and not parsed yet; any process may parse it."""

    def parse(self) -> Batch: ...


@dataclass(frozen=True)
class Part:
    """
    What is read as one: a file, an object of a bucket, one split of a hub data set, the answer to a query.

    ``version`` tells its content without reading it: the same name and version are not read again.
    """

    name: str  # its address: what reports, the watermark and ``ratchet seen`` call it
    version: str  # size and time of change of a file, ETag of an object, commit of a data set
    read: Callable[[Columns], Iterator[Block]] = field(compare=False)
    bytes: int | None = None
    modified: datetime | None = None  # UTC
    split: Split | None = None  # the split that the source itself puts these rows in


@dataclass(frozen=True)
class Source:
    parts: Sequence[Part]
    described: dict[str, Any]  # what goes into manifest and result: uri, files, bytes, revision


def check_columns(name: str, found: Sequence[str], columns: Columns) -> None:
    """:raises BadInput: ``found`` lacks a wanted column, or has it twice."""
    for key, wanted in columns.wanted:
        if found.count(wanted) > 1:
            raise BadInput(f"{name}: the column {wanted!r} ({key}) is there {found.count(wanted)} times. Rename one.")
        if wanted not in found:
            raise missing_column(name, key, wanted, found)


def check_keys(name: str, seen: Collection[str], columns: Columns) -> None:
    """
    :param seen: all keys of an object whose rows name their own columns; none: it is another one, or has no row.
    :raises BadInput: no row has a wanted column.
    """
    for key, wanted in columns.wanted:
        if seen and wanted not in seen:
            raise missing_column(name, key, wanted, seen)


def missing_column(name: str, key: str, wanted: str, found: Iterable[str]) -> BadInput:
    """
    :param found: the columns there are. What a file that was meant to be no table begins with may be anybody's secret:
        little of a name is shown, and nothing of one with control characters.
    """
    found = list(found)
    names = [column for column in found if not _CONTROL.search(column)]
    nearest = {column.casefold(): column for column in names}
    match = difflib.get_close_matches(wanted.casefold(), nearest, n=1)
    hint = f" Did you mean {_shown(nearest[match[0]])}?" if match else ""
    if len(found) == 1 and wanted in found[0]:
        hint = " The columns are not separated as this format has them: commas in CSV, tabs in TSV."
    if len(names) < len(found):
        hint = f" Not shown: {len(found) - len(names)} with control characters in the name. Check the format.{hint}"
    shown = ", ".join(_shown(column) for column in names[:30]) + (", ..." if len(names) > 30 else "")
    return BadInput(f"{name}: no column {wanted!r} ({key}). Columns found: {shown or 'none'}.{hint}")


def _shown(column: str) -> str:
    return repr(column if len(column) <= SHOWN_CHARACTERS else f"{column[: SHOWN_CHARACTERS - 3]}...")
