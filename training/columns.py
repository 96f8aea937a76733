"""
Judge a batch of rows at once: which can be used, what identifies each, and which split it belongs to.

Says of every row exactly what ``training.rows`` and ``training.text`` say of one. Plain ASCII, which is most of most
data, never becomes a Python object.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from training.contract import SPLITS, Split
from training.rows import UNKNOWN_LABEL, Unusable, digest_of_text, label_of, text_of
from training.sources.part import BadRow, Batch, Row

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow

# What str.split() takes for whitespace within ASCII; \x1c to \x1f are separators to Python alone.
_SPACES = r"[\t-\r\x1c-\x1f ]+"
_COLLAPSED = f"lower(trim(regexp_replace(text, '{_SPACES}', ' ', 'g'), ' '))"

# Of rows whose texts are ASCII with something to see in them; null for the others. The CASE keeps regular expressions,
# which cost more than all the rest together (measured), away from rows that have no space to collapse.
_MD5_LOWER = "<u8"  # how DuckDB's md5_number_lower reads the last eight bytes of the digest (tested)
_IDENTIFIED = rf"""
    SELECT unhex(sha256(normal)) AS hash, md5_number_lower(text) AS digest
    FROM (
        SELECT text, CASE
            WHEN strlen(text) <> length(text) THEN NULL
            WHEN printable AND NOT (contains(text, '  ') OR starts_with(text, ' ') OR ends_with(text, ' '))
                THEN nullif(lower(text), '')
            WHEN printable THEN nullif({_COLLAPSED}, '')
            WHEN regexp_matches(text, '^[^\x00]*[!-~][^\x00]*$') THEN {_COLLAPSED}
            END AS normal
        FROM batch
    )
"""


class Refused(NamedTuple):
    """A row that cannot be used, and why."""

    row: int
    reason: str
    text: str | None
    label: str | None


@dataclass(frozen=True)
class Judged:
    """:param rows: row, split, label, text, time; as uint64 h0 and h1, the text's identity, and digest, its own."""

    rows: pyarrow.Table
    refused: Sequence[Refused]

    @property
    def total(self) -> int:
        return self.rows.num_rows + len(self.refused)


class Judge:
    """
    :param percents: of the hash buckets, for test and validation.
    :param labels: those that may be; None: any.
    """

    def __init__(self, percents: tuple[int, int], labels: Iterable[str] | None) -> None:
        self.percents = percents
        self.labels = None if labels is None else frozenset(labels)
        self._label: dict[str, str | Unusable] = {}  # what each spelling of a label means
        self._local = threading.local()

    def judge(self, batch: Batch, split: Split | None) -> Judged:
        """:param split: the split that the rows were named for; None: by the hash of the text."""
        import pyarrow

        rows, refused = self._with_labels(_with_time(batch.rows))
        tables = [_schema().empty_table()]
        if rows.num_rows:
            ascii_rows, others = self._judge_ascii(rows, split)
            tables.append(ascii_rows)
            if others.num_rows:
                columns = (others[name].to_pylist() for name in ("row", "text", "label", "time"))
                tables.append(self._judge_each(zip(*columns, strict=True), split, refused))
        if batch.others:
            tables.append(self._judge_each(self._readable(batch.others, refused), split, refused))
        return Judged(pyarrow.concat_tables(tables), refused)

    def _with_labels(self, rows: pyarrow.Table) -> tuple[pyarrow.Table, list[Refused]]:
        """:return: the rows with their labels' names, without those whose label cannot be used."""
        import pyarrow
        import pyarrow.compute as pc

        labels = rows["label"].combine_chunks() if rows["label"].num_chunks != 1 else rows["label"].chunk(0)
        encoded = labels.dictionary_encode()
        meant = [self._meaning(label) for label in encoded.dictionary.to_pylist()]
        names = pyarrow.array([None if isinstance(one, Unusable) else one for one in meant], pyarrow.large_string())
        known = names.take(encoded.indices)
        refused: list[Refused] = []
        if names.null_count:
            unusable = rows.filter(pc.is_null(known))
            reasons = encoded.indices.filter(pc.is_null(known)).to_pylist()
            for row, code in zip(unusable.to_pylist(), reasons, strict=True):
                reason = _why_unusable(row["text"]) or str(meant[code])
                refused.append(Refused(row["row"], reason, row["text"], row["label"]))
            rows, known = rows.filter(pc.is_valid(known)), known.drop_null()
        return rows.set_column(rows.schema.get_field_index("label"), "label", known), refused

    def _meaning(self, label: object) -> str | Unusable:
        if not isinstance(label, str):
            return self._named(label)
        found = self._label.get(label)
        if found is None:
            found = self._label[label] = self._named(label)
        return found

    def _named(self, label: object) -> str | Unusable:
        try:
            name = label_of(label)
        except Unusable as unusable:
            return unusable
        return name if self.labels is None or name in self.labels else Unusable(UNKNOWN_LABEL)

    def _judge_ascii(self, rows: pyarrow.Table, split: Split | None) -> tuple[pyarrow.Table, pyarrow.Table]:
        """:return: the rows that are judged, and those that have to be looked at one by one."""
        import pyarrow.compute as pc

        cursor = self._cursor()
        cursor.register("batch", rows.select(["text"]).append_column("printable", pc.ascii_is_printable(rows["text"])))
        try:
            found = cursor.sql(_IDENTIFIED).to_arrow_table()
        finally:
            cursor.unregister("batch")
        others = rows.slice(0, 0)
        if found["hash"].null_count:
            judged = pc.is_valid(found["hash"])
            others = rows.filter(pc.invert(judged))
            rows, found = rows.filter(judged), found.filter(judged)
        return self._placed(rows, _words(found["hash"]), found["digest"], split), others

    def _judge_each(
        self, rows: Iterable[tuple[int, object, str, datetime | None]], split: Split | None, refused: list[Refused]
    ) -> pyarrow.Table:
        import numpy as np
        import pyarrow

        kept = []
        hashes, digests = bytearray(), bytearray()
        for number, value, label, time in rows:
            try:
                text = text_of(value)
                hashes += digest_of_text(text)
            except Unusable as unusable:
                shown = value if isinstance(value, str) else None
                refused.append(Refused(number, str(unusable), _storable(shown), label))
                continue
            digests += hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:]
            kept.append((number, text, label, time))
        types = (pyarrow.int64(), pyarrow.large_string(), pyarrow.large_string(), pyarrow.timestamp("us", "UTC"))
        values = zip(*kept, strict=True) if kept else ((), (), (), ())
        columns = [pyarrow.array(column, kind) for column, kind in zip(values, types, strict=True)]
        table = pyarrow.table(columns, names=["row", "text", "label", "time"])
        own = pyarrow.array(np.frombuffer(digests, _MD5_LOWER).astype(np.uint64))
        return self._placed(table, np.frombuffer(hashes, ">u8").reshape(-1, 4), own, split)

    def _readable(
        self, rows: Iterable[Row | BadRow], refused: list[Refused]
    ) -> Iterator[tuple[int, object, str, datetime | None]]:
        """:return: the rows that could be parsed and whose label can be used."""
        for row in rows:
            if isinstance(row, BadRow):
                refused.append(Refused(row.number, row.reason, None, None))
                continue
            meaning = self._meaning(row.label)
            if isinstance(meaning, Unusable):
                text = row.text if isinstance(row.text, str) else None
                reason = _why_unusable(row.text) or str(meaning)
                refused.append(Refused(row.number, reason, _storable(text), None))
                continue
            yield row.number, row.text, meaning, row.time  # type: ignore[misc]  # part.py: a datetime or None

    def _placed(self, table: pyarrow.Table, hashes: np.ndarray, digests: Any, split: Split | None) -> pyarrow.Table:
        """:param hashes: (n, 4): SHA-256 in four big-endian words."""
        import numpy as np
        import pyarrow

        if split is None:
            bucket = buckets(hashes)
            test, validation = self.percents[0], sum(self.percents)
            place = np.where(bucket < test, 2, np.where(bucket < validation, 1, 0)).astype(np.int8)
        else:
            place = np.full(len(hashes), SPLITS.index(split), np.int8)
        columns = {
            **{name: table[name] for name in ("row", "label", "text", "time")},
            "split": pyarrow.array(place),
            "h0": pyarrow.array(hashes[:, 0].astype(np.uint64)),
            "h1": pyarrow.array(hashes[:, 1].astype(np.uint64)),
            "digest": digests,
        }
        return pyarrow.table({name: columns[name] for name in _schema().names}, schema=_schema())

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """One for each thread: DuckDB's connections are not shared."""
        import duckdb

        if not hasattr(self._local, "connection"):
            self._local.connection = duckdb.connect(config={"threads": 1})
        return self._local.connection


def _schema() -> pyarrow.Schema:
    import pyarrow

    words = [(name, pyarrow.uint64()) for name in ("h0", "h1", "digest")]
    return pyarrow.schema(
        [
            ("row", pyarrow.int64()),
            ("split", pyarrow.int8()),
            ("label", pyarrow.large_string()),
            ("text", pyarrow.large_string()),
            ("time", pyarrow.timestamp("us", "UTC")),
            *words,
        ]
    )


def _with_time(rows: pyarrow.Table) -> pyarrow.Table:
    import pyarrow

    if "time" in rows.column_names:
        return rows
    return rows.append_column("time", pyarrow.nulls(rows.num_rows, pyarrow.timestamp("us", "UTC")))


def _words(hashes: pyarrow.ChunkedArray) -> np.ndarray:
    """:param hashes: 32 bytes each. :return: (n, 4) big-endian words."""
    import numpy as np

    parts = []
    for chunk in hashes.chunks:
        _validity, offsets, data = chunk.buffers()
        width = 8 if str(chunk.type).startswith("large") else 4
        first = np.frombuffer(offsets, np.int64 if width == 8 else np.int32)[chunk.offset]
        parts.append(np.frombuffer(data, ">u8", count=len(chunk) * 4, offset=int(first)).reshape(-1, 4))
    return np.concatenate(parts) if parts else np.empty((0, 4), ">u8")


def buckets(hashes: np.ndarray) -> np.ndarray:
    """:param hashes: (n, 4) big-endian words of SHA-256. :return: the whole number modulo 100."""
    import numpy as np

    found = np.zeros(len(hashes), np.uint64)
    for column in range(4):
        weight = np.uint64(pow(2, 64 * (3 - column), 100))
        found += hashes[:, column].astype(np.uint64) % np.uint64(100) * weight
    return found % np.uint64(100)


def _why_unusable(text: object) -> str | None:
    """Of a row without text and without label, the missing text is told."""
    try:
        text_of(text)
    except Unusable as unusable:
        return str(unusable)
    return None


def _storable(text: str | None) -> str | None:
    """:return: the text with what is no character replaced, so that it can be kept in a file."""
    return None if text is None else text.encode("utf-8", "replace").decode()
