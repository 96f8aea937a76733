"""
Judge a batch of rows: which can be used, what identifies each, and which split it belongs to.

Says of every row exactly what ``training.rows`` and ``training.text`` say of one; of printable ASCII, which is most of
most data, the bytes are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from training.contract import SPLITS, Split
from training.personal import Found, Scan
from training.reasons import NOT_UTF8, PERSONAL_DATA, UNKNOWN_LABEL
from training.rows import Unusable, kept_of, label_of, text_of
from training.sources.part import BadRow, Batch, Row
from training.text import normalised

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

    from training.forgotten import Forgotten


# Bounds of the groups that texts are counted in by their length, in characters: ever longer ones, as texts' lengths are
LENGTHS = (1, 5, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1280, 2560, 5120, 10240, 102400)


class Refused(NamedTuple):
    """A row that cannot be used, and why."""

    row: int
    reason: str
    text: str | None
    label: str | None


@dataclass(frozen=True)
class Judged:
    """
    :param rows: row, label, text, time, columns that are kept, split; as uint64 h0 and h1, the text's identity, and
        digest, its own, with what is kept beside it.
    :param lengths: how many of their texts have as many characters as one of ``LENGTHS``, but fewer than the next.
    :param personal: the rows, refused ones among them, in which personal data was found.
    """

    rows: pyarrow.Table
    refused: Sequence[Refused]
    lengths: Mapping[str, int]
    personal: Sequence[Found] = ()

    @property
    def total(self) -> int:
        return self.rows.num_rows + len(self.refused)


class Judge:
    """
    :param percents: of the hash buckets, for test and validation.
    :param labels: those that may be; None: any.
    :param scan: for personal data; None: it is not looked for.
    :param forgotten: texts that are left out; None: none.
    :param kept: columns of the rows that stay with them.
    """

    def __init__(
        self,
        percents: tuple[int, int],
        labels: Iterable[str] | None = None,
        scan: Scan | None = None,
        forgotten: Forgotten | None = None,
        kept: Sequence[str] = (),
    ) -> None:
        self.percents = percents
        self.scan = scan
        self.forgotten = forgotten
        self.kept = tuple(kept)
        self.labels = None if labels is None else frozenset(labels)
        self._label: dict[str, str | Unusable] = {}  # what each spelling of a label means

    def judge(self, batch: Batch, split: Split | None) -> Judged:
        """:param split: the split that the rows were named for; None: by the hash of the text."""
        import pyarrow

        personal: Sequence[Found] = ()
        if self.scan is not None:  # before anything else sees the texts, so that nothing of them is kept
            batch, personal = self.scan.look(batch)
        rows, refused = self._with_labels(_with_time(batch.rows, self.kept))
        if self.scan is not None and self.scan.leaves_out:
            refused += [Refused(one.row, PERSONAL_DATA, _storable(one.text), one.label) for one in personal]
        tables = [rows]
        if batch.others:
            tables.append(self._readable(batch.others, refused))
        judged = replace(self._identify(pyarrow.concat_tables(tables), split, refused), personal=personal)
        return judged if self.forgotten is None else self.forgotten.leave_out(judged)

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

    def _readable(self, rows: Iterable[Row | BadRow], refused: list[Refused]) -> pyarrow.Table:
        """:return: the rows that could be parsed and whose text and label can be used."""
        import pyarrow

        kept: list[tuple[Any, ...]] = []
        for row in rows:
            if isinstance(row, BadRow):
                refused.append(Refused(row.number, row.reason, None, None))
                continue
            meaning = self._meaning(row.label)
            try:
                text = text_of(row.text)  # of a row without text and without label, the missing text is told
                if isinstance(meaning, Unusable):
                    raise meaning
                text.encode()
            except (Unusable, UnicodeEncodeError) as error:
                reason = NOT_UTF8 if isinstance(error, UnicodeEncodeError) else str(error)
                shown = row.text if isinstance(row.text, str) else None
                refused.append(Refused(row.number, reason, _storable(shown), None))
                continue
            kept.append((row.number, text, meaning, row.time, *map(kept_of, row.kept)))
        schema = _read_schema(self.kept)
        columns = zip(*kept, strict=True) if kept else [()] * len(schema)
        arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        return pyarrow.Table.from_arrays(arrays, schema=schema)

    def _identify(self, rows: pyarrow.Table, split: Split | None, refused: list[Refused]) -> Judged:
        import numpy as np
        import pyarrow
        import pyarrow.compute as pc
        from xxhash import xxh3_64_digest

        strings = rows["text"].combine_chunks()
        texts = strings.cast(pyarrow.large_binary()).to_pylist()
        normal = pc.ascii_lower(strings).cast(pyarrow.large_binary()).to_pylist()
        unusable: list[tuple[int, str]] = []
        for place in _uneven(strings):
            try:
                normal[place] = normalised(text_of(texts[place])).encode()
            except Unusable as error:
                unusable.append((place, str(error)))
        hashes = [sha256(text).digest() for text in normal]
        words = np.frombuffer(b"".join(hashes), ">u8").reshape(-1, 4)
        own = np.frombuffer(b"".join(map(xxh3_64_digest, self._contents(rows, texts))), ">u8")
        rows = self._placed(rows, words, own, split)
        if unusable:
            places = [place for place, _reason in unusable]
            for row, (_place, reason) in zip(rows.take(places).to_pylist(), unusable, strict=True):
                refused.append(Refused(row["row"], reason, row["text"], row["label"]))
            keep = np.ones(rows.num_rows, bool)
            keep[places] = False
            rows = rows.filter(pyarrow.array(keep))
        return Judged(rows, refused, lengths_of(rows["text"]))

    def _contents(self, rows: pyarrow.Table, texts: list[bytes]) -> Iterable[bytes]:
        """:return: of each row what makes it another one: its text, and what is kept beside it; no value is empty."""
        import pyarrow

        if not self.kept:
            return texts
        kept = (rows[name].cast(pyarrow.large_binary()).fill_null(b"").to_pylist() for name in self.kept)
        return map(b"\0".join, zip(texts, *kept, strict=True))

    def _placed(
        self, rows: pyarrow.Table, hashes: np.ndarray, digests: np.ndarray, split: Split | None
    ) -> pyarrow.Table:
        """:param hashes: (n, 4): SHA-256 in four big-endian words. :param digests: (n,)"""
        import numpy as np
        import pyarrow

        if split is None:
            bucket = buckets(hashes)
            test, validation = self.percents[0], sum(self.percents)
            codes = np.where(bucket < test, TEST, np.where(bucket < validation, VALIDATION, TRAIN)).astype(np.int8)
        else:
            codes = np.full(len(hashes), SPLITS.index(split), np.int8)
        place = pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes), list(SPLITS))
        words = {"h0": hashes[:, 0], "h1": hashes[:, 1], "digest": digests}
        return pyarrow.table(
            {
                **{name: rows[name] for name in ("row", "label", "text", "time", *self.kept)},
                "split": place,
                **{name: pyarrow.array(values.astype(np.uint64)) for name, values in words.items()},
            }
        )


TRAIN, VALIDATION, TEST = (SPLITS.index(split) for split in ("train", "validation", "test"))


def _uneven(texts: pyarrow.Array) -> list[int]:
    """:return: the places of texts that are compared as something else than their lower case."""
    import numpy as np
    import pyarrow.compute as pc

    if not len(texts):
        return []
    _validity, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    starts, ends = bounds[:-1], bounds[1:]
    uneven = ~pc.ascii_is_printable(texts).to_numpy(zero_copy_only=False) | (starts == ends)
    data = np.frombuffer(content, np.uint8)
    if len(data):
        uneven |= (data[np.minimum(starts, len(data) - 1)] == SPACE) | (data[ends - 1] == SPACE)
        for shift in (0, 1):
            pairs = data[bounds[0] + shift : bounds[-1]]
            twice = np.flatnonzero(pairs[: len(pairs) // 2 * 2].view(np.uint16) == TWO_SPACES) * 2 + shift
            # if the second one belongs to the next text, both texts are uneven by their ends
            uneven[starts.searchsorted(twice + bounds[0], "right") - 1] = True
    return np.flatnonzero(uneven).tolist()


SPACE = ord(" ")
TWO_SPACES = SPACE << 8 | SPACE


def _read_schema(kept: Sequence[str]) -> pyarrow.Schema:
    import pyarrow

    text = pyarrow.large_string()
    columns = [("row", pyarrow.int64()), ("text", text), ("label", text), ("time", _time())]
    return pyarrow.schema(columns + [(name, text) for name in kept])


def _time() -> pyarrow.DataType:
    import pyarrow

    return pyarrow.timestamp("us", "UTC")


def _with_time(rows: pyarrow.Table, kept: Sequence[str]) -> pyarrow.Table:
    """:return: row, text, label, time and what is kept, in this order."""
    import pyarrow

    if "time" not in rows.column_names:
        rows = rows.append_column("time", pyarrow.nulls(rows.num_rows, _time()))
    schema = _read_schema(kept)
    return rows.select(schema.names).cast(schema)


def lengths_of(texts: pyarrow.ChunkedArray) -> dict[str, int]:
    import numpy as np
    import pyarrow.compute as pc

    places = np.searchsorted(LENGTHS, pc.utf8_length(texts).to_numpy(), "right") - 1
    counts = np.bincount(places, minlength=len(LENGTHS))
    return {str(length): int(count) for length, count in zip(LENGTHS, counts, strict=True) if count}


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
