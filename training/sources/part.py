"""The boundary between whoever reads rows and whoever judges them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.contract import BadInput, Split

SHOWN_CHARACTERS = 60  # of a column's name in an error
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # but tabs and line ends, which are in real headers


class Row(NamedTuple):
    """The two values of a row as the file has them."""

    number: int  # line in a text file, otherwise record, counted from 1
    text: object
    label: object


class BadRow(NamedTuple):
    """A row that could not be parsed."""

    number: int
    reason: str


class Columns(NamedTuple):
    text: str
    label: str


@dataclass(frozen=True)
class Part:
    """One file, or one split of a hub data set."""

    name: str
    read: Callable[[Columns], Iterator[Row | BadRow]]
    bytes: int | None = None
    split: Split | None = None  # the split that the source itself puts these rows in


@dataclass(frozen=True)
class Source:
    parts: Sequence[Part]
    described: dict[str, Any]  # what goes into manifest and result: uri, files, bytes, revision


def check_columns(name: str, found: Sequence[str], columns: Columns) -> None:
    """:raises BadInput: ``found`` lacks a wanted column, or has it twice."""
    for key, wanted in columns._asdict().items():
        if found.count(wanted) > 1:
            raise BadInput(f"{name}: the column {wanted!r} ({key}) is there {found.count(wanted)} times. Rename one.")
        if wanted not in found:
            raise missing_column(name, key, wanted, found)


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
