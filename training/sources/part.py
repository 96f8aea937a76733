"""The boundary between whoever reads rows and whoever judges them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.contract import BadInput, Split


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
    found = list(found)
    nearest = {column.casefold(): column for column in found}
    match = difflib.get_close_matches(wanted.casefold(), nearest, n=1)
    hint = f" Did you mean {nearest[match[0]]!r}?" if match else ""
    if len(found) == 1 and wanted in found[0]:
        hint = " The columns are not separated as this format has them: commas in CSV, tabs in TSV."
    shown = ", ".join(repr(column) for column in found[:30]) + (", ..." if len(found) > 30 else "")
    return BadInput(f"{name}: no column {wanted!r} ({key}). Columns found: {shown or 'none'}.{hint}")
