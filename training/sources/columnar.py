"""Take rows from columns that Arrow holds already: of Parquet, of Arrow's own files, of a data set of the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.sources import part
from training.sources.blocks import batch_of, kept_column, table_of
from training.sources.part import Batch, Block, Columns, Row
from training.sources.times import times_of

if TYPE_CHECKING:
    import pyarrow

NO_NAMES: Mapping[str, Sequence[str]] = {}


def blocks_of(
    tables: Iterable[pyarrow.Table], columns: Columns, names: Mapping[str, Sequence[str]] = NO_NAMES
) -> Iterator[Block]:
    """
    Number the rows of an object, which comes in tables of any size.

    :param names: of a column of integers, what each stands for; a negative one stands for none.
    """
    number = 1
    for table in _sized(table.select(columns.names) for table in tables):
        yield _Block(table, number, columns, names)
        number += len(table)


def _sized(tables: Iterable[pyarrow.Table]) -> Iterator[pyarrow.Table]:
    """:return: the same rows in tables of about ``BLOCK_BYTES``."""
    import pyarrow

    small: list[pyarrow.Table] = []
    for table in tables:
        if small and (_size(*small, table) > part.BLOCK_BYTES or small[0].schema != table.schema):
            yield pyarrow.concat_tables(small)
            small = []
        rows = max(1, len(table) * part.BLOCK_BYTES // max(1, table.nbytes))
        if rows < len(table):
            yield from (table.slice(start, rows) for start in range(0, len(table), rows))
        else:
            small.append(table)
    if small:
        yield pyarrow.concat_tables(small)


def _size(*tables: pyarrow.Table) -> int:
    return sum(table.nbytes for table in tables)


@dataclass(frozen=True, eq=False)
class _Block:
    table: pyarrow.Table
    first: int  # number of the first row
    columns: Columns
    names: Mapping[str, Sequence[str]]

    def __reduce__(self) -> tuple[Any, ...]:
        """A slice of a table would take all of the table with it."""
        return _unpacked, (_packed(self.table), self.first, self.columns, self.names)

    def parse(self) -> Batch:
        import numpy as np
        import pyarrow.compute as pc

        text, label = self.table[self.columns.text].combine_chunks(), self._column(self.columns.label)
        times = None if self.columns.time is None else times_of(self.table[self.columns.time].combine_chunks())
        kept = {name: kept_strings(self._column(name)) for name in self.columns.keep}
        numbers = np.arange(self.first, self.first + len(self.table))
        texts, labels = _strings(text), _names(label)
        if texts is None or labels is None:
            return batch_of(_rows(numbers, text, label, times, kept), self.columns)
        held = pc.and_(texts.is_valid(), labels.is_valid())
        table = table_of(numbers, texts, labels, times, kept)
        if pc.all(held).as_py() is not False:
            return batch_of((), self.columns, table)
        others = pc.invert(held)
        rows = _rows(
            numbers[others.to_numpy(zero_copy_only=False)],
            text.filter(others),
            label.filter(others),
            None if times is None else times.filter(others),
            {name: values.filter(others) for name, values in kept.items()},
        )
        return batch_of(rows, self.columns, table.filter(held))

    def _column(self, name: str) -> pyarrow.Array:
        values = self.table[name].combine_chunks()
        return _named(values, self.names[name]) if name in self.names else values


def _packed(table: pyarrow.Table) -> pyarrow.Buffer:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(content: pyarrow.Buffer, first: int, columns: Columns, names: Mapping[str, Sequence[str]]) -> _Block:
    import pyarrow

    return _Block(pyarrow.ipc.open_stream(content).read_all(), first, columns, names)


def _strings(values: pyarrow.Array) -> pyarrow.Array | None:
    """:return: the values as strings; None: they are none, or not all of them are valid."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    tests = (
        types.is_null,
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
    )
    if not any(test(values.type) for test in tests):
        return None
    try:
        strings = values.cast(pyarrow.large_string())
        strings.validate(full=True)
    except pyarrow.ArrowInvalid:
        return None
    return strings


def _names(labels: pyarrow.Array) -> pyarrow.Array | None:
    """:return: the labels as ``training.rows.label_of`` writes them; None: they have to be looked at one by one."""
    import pyarrow
    from pyarrow import types

    if types.is_integer(labels.type) or types.is_boolean(labels.type):
        return labels.cast(pyarrow.large_string())
    return _strings(labels)


def _named(values: pyarrow.Array, names: Sequence[str]) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as pc

    codes = values.cast(pyarrow.int64())
    known = pc.if_else(pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names))), codes, None)
    nameless = pc.if_else(pc.less(codes, 0), None, codes.cast(pyarrow.large_string()))
    return pc.coalesce(pyarrow.array(names, pyarrow.large_string()).take(known), nameless)


def kept_strings(values: pyarrow.Array) -> pyarrow.Array:
    """:return: as ``kept_column``; of values that are often the same each is looked at once."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_nested(values.type) or types.is_null(values.type):
        return pyarrow.nulls(len(values), pyarrow.large_string())
    encoded = values.dictionary_encode()
    return kept_column(_values(encoded.dictionary)).take(encoded.indices)


def _rows(
    numbers: Iterable[int],
    texts: pyarrow.Array,
    labels: pyarrow.Array,
    times: pyarrow.Array | None,
    kept: Mapping[str, pyarrow.Array],
) -> Iterator[Row]:
    moments = times.to_pylist() if times is not None else [None] * len(texts)
    others = zip(*(values.to_pylist() for values in kept.values()), strict=True) if kept else [()] * len(texts)
    for number, text, label, time, stay in zip(numbers, _values(texts), _values(labels), moments, others, strict=True):
        yield Row(int(number), text, label, time, stay)


def _values(values: pyarrow.Array) -> list[Any]:
    """:return: what Python makes of them; strings that are none stay bytes, as an invalid string cannot be one."""
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_string(values.type) or types.is_large_string(values.type):
        return [_decoded(value) for value in values.cast(pyarrow.large_binary()).to_pylist()]
    try:
        return values.to_pylist()
    except (OverflowError, ValueError):
        return [_value(value) for value in values]


def _value(value: pyarrow.Scalar) -> Any:
    """:return: Ellipsis, which is of no usable type, for what Python has no value of, such as a date after 9999."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return ...


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value
