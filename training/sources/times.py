"""
Understand when a row was made.

Timestamps and ISO 8601 texts without a zone count as UTC. A number, or a text that is one, is Unix time, in
milliseconds from ``MILLISECONDS`` on; eight digits in a text are a date. Whatever else is no time at all: null.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

MILLISECONDS = 1e11  # as seconds this is the year 5138, as milliseconds 1973
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = (  # microseconds: what Python's datetime can hold
    (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1) for moment in (datetime.min, datetime.max)
)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{8}")
_UNIX = r"^[0-9]{9,13}$"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def time_of(value: object) -> datetime | None:
    """:return: the moment in UTC; None: the value is none."""
    if isinstance(value, str):
        value = value.strip()
        if _NUMBER.fullmatch(value) and not _DATE.fullmatch(value):
            return _from_unix(float(value))
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        except OverflowError:  # the first or last day there is, in another zone
            return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _from_unix(float(value))
        except OverflowError:
            return None
    return None


def _from_unix(number: float) -> datetime | None:
    if not math.isfinite(number):
        return None
    microseconds = round(number * (1e3 if abs(number) >= MILLISECONDS else 1e6))
    return _EPOCH + timedelta(microseconds=microseconds) if _FIRST <= microseconds <= _LAST else None


def times_of(values: pyarrow.Array) -> pyarrow.Array:
    """:return: as ``time_of`` for each value: timestamp[us, UTC]."""
    import pyarrow
    from pyarrow import types

    kind = values.type
    if types.is_dictionary(kind):
        return times_of(values.cast(kind.value_type))
    if types.is_timestamp(kind):
        return _from_stamps(values.cast(pyarrow.int64()), _PER_SECOND[kind.unit])
    if types.is_date(kind):
        return times_of(values.cast(pyarrow.timestamp("ms")))
    if types.is_integer(kind) or types.is_floating(kind):
        return _from_numbers(values.cast(pyarrow.float64(), safe=False))
    if types.is_string(kind) or types.is_large_string(kind):
        found = _from_texts(values)
        if found is not None:
            return found
    return pyarrow.array([_time_of(value) for value in values], _stamp())


def _time_of(value: pyarrow.Scalar) -> datetime | None:
    try:
        return time_of(value.as_py())
    except (OverflowError, ValueError):  # beyond what Python has
        return None


def _stamp() -> pyarrow.DataType:
    import pyarrow

    return pyarrow.timestamp("us", "UTC")


def _from_stamps(values: pyarrow.Array, per_second: int) -> pyarrow.Array:
    import numpy as np

    numbers, known = _numpy(values, np.int64)
    known &= (numbers >= _FIRST * per_second // 10**6) & (numbers <= _LAST * per_second // 10**6)
    numbers = np.where(known, numbers, 0)
    factor = 10**6 // per_second
    return _stamps(numbers * factor if factor else numbers // (per_second // 10**6), known)


def _from_numbers(values: pyarrow.Array) -> pyarrow.Array:
    import numpy as np

    numbers, known = _numpy(values, np.float64)
    known &= np.isfinite(numbers)
    numbers = np.where(known, numbers, 0)
    with np.errstate(over="ignore"):
        microseconds = np.rint(numbers * np.where(np.abs(numbers) >= MILLISECONDS, 1e3, 1e6))
    # a double just above the last microsecond is the year 10000: both ends are compared as doubles below it
    known &= (microseconds >= _FIRST) & (microseconds < _LAST)
    return _stamps(np.where(known, microseconds, 0).astype(np.int64), known)


def _from_texts(values: pyarrow.Array) -> pyarrow.Array | None:
    """:return: None: these texts have to be looked at one by one."""
    import pyarrow
    import pyarrow.compute as pc

    if values.null_count == len(values):
        return pyarrow.nulls(len(values), _stamp())
    if pc.all(pc.match_substring_regex(values, _UNIX)).as_py():
        return _from_numbers(values.cast(pyarrow.float64()))
    for kind in (pyarrow.timestamp("us", "UTC"), pyarrow.timestamp("us")):  # all with a zone, or all without
        try:
            return _from_stamps(values.cast(kind).cast(pyarrow.int64()), 10**6)
        except pyarrow.ArrowInvalid:
            pass
    return None


def _numpy(values: pyarrow.Array, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    """:return: the values, with anything where there is none, and where there is one."""
    import pyarrow.compute as pc

    known = values.is_valid().to_numpy(zero_copy_only=False).copy()
    return pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(kind, copy=False), known


def _stamps(microseconds: np.ndarray, known: np.ndarray) -> pyarrow.Array:
    import pyarrow

    return pyarrow.array(microseconds, pyarrow.int64(), mask=~known).cast(_stamp())
