"""Say which rows of a test set belong to which slice: the named parts of it that the gate looks at by themselves."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Message
from training.text import text_hash

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow

    from training.attributes import Attributes
    from training.condition import Conditions
    from training.testset import TestSet

log = logging.getLogger(__name__)

COMMONEST = 20  # assumed: values of a column that become slices of their own; of more nobody reads each
SHOWN = 5  # values in a description
MEMBERSHIP = "membership.parquet"  # of an evaluation
# Columns of the membership beside those of the slices
TEXT = "text_sha256"  # by which a text that is forgotten is found
NEW = "joined_since_the_champion"  # whether the champion was judged without the row
TAKEN = (TEXT, NEW)


@dataclass(frozen=True, kw_only=True)
class Slice(Message):
    """
    What the spec says of one slice, and of each kind one key: exactly one of them is given.

    :raises BadInput: two kinds, none, or bounds without anything between them.
    """

    column: str | None = None  # a column that is kept; alone, it makes a slice of each of its commonest values
    values: list[str] | None = None  # of the column
    text_length: list[Any] | None = None  # from, and below, in characters; None: no bound
    label: list[str] | None = None  # any of them, as the test set has it
    source: str | None = None  # name of an object, or a glob
    age_days: list[Any] | None = None  # from, and below, against the snapshot's newest row
    where: str | None = None  # SQL expression (training.condition)

    def __post_init__(self) -> None:
        given = [one.name for one in fields(self) if getattr(self, one.name) is not None and one.name != "values"]
        if len(given) != 1 or (self.values is not None and given != ["column"]):
            kinds = ", ".join(one.name for one in fields(self) if one.name != "values")
            raise BadInput(f"expected one of {kinds}, found {', '.join(given) or 'none'}")
        for name in ("text_length", "age_days"):
            if (bounds := getattr(self, name)) is not None and not are_bounds(bounds):
                raise BadInput(f"{name} is {bounds!r}; expected [from, below], one of which may be null")


def are_bounds(bounds: list[Any]) -> bool:
    """:return: whether this is [from, below], with something between them."""
    numbers = [one for one in bounds if one is not None]
    if len(bounds) != 2 or not numbers:
        return False
    if any(isinstance(one, bool) or not isinstance(one, int | float) or one != one for one in numbers):
        return False
    return min(numbers) >= 0 and (len(numbers) < 2 or numbers[0] < numbers[1])


@dataclass(frozen=True)
class Group:
    """A slice, and which rows of the test set are in it."""

    name: str
    description: str
    rows: np.ndarray  # bool

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "rows": int(self.rows.sum()), "description": self.description}


def cut(test_set: TestSet, wanted: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """
    :param wanted: name to the fields of a ``Slice``.
    :return: in the order of ``wanted``. A slice may have no row: that is for whoever judges to say.
    :raises BadInput: a slice cannot be asked of this test set. The message names it.
    """
    if not wanted:
        return []
    from training.attributes import read_attributes
    from training.condition import Conditions

    checked = check_slices(wanted)
    attributes = read_attributes(test_set)
    groups: dict[str, Group] = {}
    with Conditions.about(attributes.rows) as conditions:
        for name, one in checked.items():
            with _naming(name):
                for group in _groups(name, one, attributes, conditions):
                    if group.name in groups:
                        raise BadInput(f"there is a slice {group.name!r} already; give this one another name")
                    groups[group.name] = group
                    if not group.rows.any():
                        log.warning("slice %r has no row: %s", group.name, group.description)
    return list(groups.values())


def check_slices(wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, Slice]:
    """:raises BadInput: the fields of one are none of a slice."""
    checked = {}
    for name, values in wanted.items():
        with _naming(name):
            if name in TAKEN:
                raise BadInput("this name is taken; give it another one")
            checked[name] = Slice.from_dict(dict(values))
    return checked


def slice_problems(wanted: Mapping[str, Mapping[str, Any]], keep: Iterable[str]) -> dict[str, str]:
    """
    Try each condition on a table without rows.

    :param keep: the columns that the test set is to have.
    :return: slice to what is wrong with its condition.
    """
    import pyarrow

    from training.condition import Conditions

    text = pyarrow.large_string()
    ours = {"text": text, "label": text, "source": text, "time": pyarrow.timestamp("us")}
    kept = dict.fromkeys(keep, text)
    hidden = {name.casefold() for name in kept}
    columns = {**{name: kind for name, kind in ours.items() if name not in hidden}, **kept}
    problems = {}
    with Conditions.about(pyarrow.schema(columns.items()).empty_table()) as conditions:
        for name, one in check_slices(wanted).items():
            try:
                if one.where is not None:
                    conditions.holds(one.where)
            except BadInput as error:
                problems[name] = f"{error}."
    return problems


def digest_of(groups: Iterable[Group]) -> str:
    """:return: equal for slices of the same names with the same rows, whatever they are cut by."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(json.dumps(group.to_json()).encode())
        digest.update(group.rows.tobytes())
    return digest.hexdigest()


def write_membership(path: Path, test_set: TestSet, groups: Iterable[Group], new: np.ndarray | None = None) -> None:
    """
    Write a Parquet file with a bool column for each slice, in the order of the test set's rows.

    :param new: (n_rows,), whether the champion was judged without the row; None: nobody knows.
    """
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {TEXT: [text_hash(text) for text in test_set.texts]}
    columns |= {} if new is None else {NEW: new}
    columns |= {group.name: group.rows for group in groups}
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the name of the slice before what is wrong with it."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"gate.slices.{name}: {str(error).rstrip('.')}. Nothing was judged.") from error


def _groups(name: str, one: Slice, attributes: Attributes, conditions: Conditions) -> list[Group]:
    if one.column is not None:
        values = _column(one.column, attributes)
        if one.values is None:
            return _by_value(name, one.column, values)
        return [Group(name, f"{one.column} is {_either(one.values)}", _among(values, one.values))]
    if one.text_length is not None:
        description = f"texts of {_between(one.text_length)} characters"
        return [Group(name, description, _within(attributes.text_lengths, one.text_length))]
    if one.label is not None:
        return [Group(name, f"label is {_either(one.label)}", _among(attributes.labels, one.label))]
    if one.source is not None:
        return [Group(name, f"rows from {one.source}", _from_source(one.source, attributes))]
    if one.age_days is not None:
        description = f"rows {_between(one.age_days)} days older than the newest one"
        return [Group(name, description, _within(attributes.age_days, one.age_days))]
    assert one.where is not None
    return [Group(name, f"where {one.where}", conditions.holds(one.where))]


def _column(name: str, attributes: Attributes) -> pyarrow.Array:
    if name not in attributes.kept:
        close = difflib.get_close_matches(name, attributes.kept, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        there = ", ".join(attributes.kept) or "none"
        raise BadInput(f"the test set keeps no column {name!r}; it keeps {there}. Name it in data.keep.{meant}")
    return attributes.kept[name]


def _by_value(name: str, column: str, values: pyarrow.Array) -> list[Group]:
    """A slice of each of the commonest values; rows without one are in none."""
    counts = Counter(values.drop_null().to_pylist())
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    if len(ranked) > COMMONEST:
        log.info("slice %r: of the %s values of %s the %d commonest", name, f"{len(ranked):,}", column, COMMONEST)
    return [Group(f"{name}={value}", f"{column} is {value}", _among(values, [value])) for value in ranked[:COMMONEST]]


def _among(values: pyarrow.Array, wanted: list[str]) -> np.ndarray:
    import pyarrow
    import pyarrow.compute as pc

    found = pc.is_in(values, pyarrow.array(wanted, pyarrow.large_string()))
    return found.to_numpy(zero_copy_only=False)


def _within(numbers: np.ndarray, bounds: list[Any]) -> np.ndarray:
    import numpy as np

    low, below = bounds
    found = ~np.isnan(numbers)
    if low is not None:
        found &= numbers >= low
    if below is not None:
        found &= numbers < below
    return found


def _from_source(pattern: str, attributes: Attributes) -> np.ndarray:
    sources = set(attributes.source.drop_null().to_pylist())
    if not sources:
        raise BadInput("the test set is a file of its own, whose rows come from no source")
    named = [one for one in sources if one == pattern or fnmatch.fnmatchcase(one, pattern)]
    return _among(attributes.source, named)


def _either(values: list[str]) -> str:
    shown = values[:SHOWN]
    more = len(values) - len(shown)
    return " or ".join(shown) + (f" or one of {more:,} more" if more else "")


def _between(bounds: list[Any]) -> str:
    low, below = bounds
    if below is None:
        return f"{low:,.10g} and more"
    return f"less than {below:,.10g}" if not low else f"{low:,.10g} to less than {below:,.10g}"
