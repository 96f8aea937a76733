"""The readers that parse a block at once give what the careful ones give row by row, wherever blocks are cut."""

import csv
import io
import json
import pickle
import random
from datetime import UTC, datetime, timedelta

import pyarrow
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from training.contract import BadInput
from training.rows import kept_of
from training.sources import part
from training.sources.delimited import read_delimited
from training.sources.delimited_rows import Content, Rows
from training.sources.jsonl import keys_of, read_jsonl, read_line
from training.sources.part import BadRow, Columns, Row, check_keys
from training.sources.times import time_of, times_of

COLUMNS = [
    Columns("text", "label"),
    Columns("text", "label", "time"),
    Columns('a."b', "", "text"),
    Columns("text", "label", None, ("id", "time")),
    Columns("label", "text", "time", ("a.b", "ключ")),
]
thorough = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rows_of(read, content, columns, block_bytes, **options):
    """:return: what the blocks hold, parsed in another order than they were read in; or why the whole is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "BLOCK_BYTES", block_bytes)
        try:
            blocks = list(read(io.BufferedReader(io.BytesIO(content)), "rows", columns, **options))
            random.Random(block_bytes).shuffle(blocks)
            batches = [pickle.loads(pickle.dumps(block)).parse() for block in blocks]  # as it gets to another process
            check_keys("rows", [key for batch in batches for key in batch.keys], columns)
        except BadInput as refused:
            return what(refused)
    rows = []
    for batch in batches:
        batch.rows.validate(full=True)
        assert not any(batch.rows[name].null_count for name in ("row", "text", "label"))
        rows += [row_of(values, columns) for values in batch.rows.to_pylist()]
        rows += batch.others
    return named(sorted(rows, key=lambda row: row.number))


def row_of(values, columns):
    kept = tuple(values[name] for name in columns.kept)
    return Row(values["row"], values["text"], values["label"], values.get("time"), kept)


def is_plain_utf8(content):
    """:return: whether there is no mark to skip, and no zero at the beginning that says it is something else."""
    return json.detect_encoding(content[:4]) == "utf-8"


def what(refused):
    """The columns that were found are listed in the order they were found in."""
    return str(refused).partition(" Columns found")[0]


def named(rows):
    """Integers and booleans are labels whichever way they are held; whatever is no character is told by its repr."""
    return [
        repr(
            row._replace(
                label=json.dumps(row.label) if isinstance(row.label, int) else row.label,
                time=row.time and row.time.astimezone(UTC),
                kept=tuple(map(kept_of, row.kept)),
            )
            if isinstance(row, Row)
            else row
        )
        for row in rows
    ]


def jsonl_row_by_row(content, columns):
    lines = list(io.BytesIO(content))
    try:
        check_keys("rows", keys_of(lines), columns)
    except BadInput as refused:
        return what(refused)
    rows = [read_line(number, line, columns) for number, line in enumerate(lines, start=1)]
    return named(row for row in rows if row is not None)


def delimited_row_by_row(content, columns, delimiter):
    rows = Rows(Content(io.BytesIO(content), "rows"), delimiter, 1)
    try:
        layout = rows.header(columns)
    except BadInput as refused:
        return what(refused)
    return named([BadRow(0, "empty file")] if layout is None else rows.read(layout, len(content) + 1))


KEYS = ["text", "label", "time", "id", "a.b", 'a."b', "", "te\\u0078t", "ключ"]
SCALARS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["a", "pos", "neg", "Inf,", "NaN", "{[", "\ud800", "\0", "\u2028", "\x7f", "é", "💳", '"', "\\"]),
    st.integers(),
    st.sampled_from([-0.0, 1.0, 1e400, -1e400, float("nan"), 2**63, -(2**63), 2**64, 10**30, 1_700_000_000]),
    st.booleans(),
    st.none(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=5
)
ODD_TOKENS = [
    "nan",
    "NaN",
    "-NaN",
    "Inf",
    "-Inf",
    "-Infinity",
    "inf",
    "1e999",
    "01",
    "1.",
    "-",
    "-0",
    "0x1",
    "tRue",
    "+1",
]
LONG_TOKENS = ["1" * 4300, "1" * 4301, "-" + "9" * 4301, "[" * 100 + "]" * 100, "[" * 3000 + "]" * 3000, "[" * 3000]


def plain(pairs, ascii_only, spaced):
    """:return: an object with these keys and values, the same key more than once if need be."""
    separators = (" , ", " : ") if spaced else (",", ":")
    spelt = [json.dumps(key) + separators[1] + json.dumps(value, ensure_ascii=ascii_only) for key, value in pairs]
    return ("{" + separators[0].join(spelt) + "}").encode("utf-8", "surrogatepass")


PLAIN = st.builds(plain, st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=5), st.booleans(), st.booleans())
GOOD = st.builds(
    lambda text, label, time: json.dumps({"text": text, "label": label, "time": time}).encode(),
    st.text(max_size=8),
    st.sampled_from(["pos", "neg", 1, 0, True]),
    st.sampled_from(["2026-01-01", 1_700_000_000, None]),
)
TOKENS = st.sampled_from([*ODD_TOKENS, *LONG_TOKENS]).flatmap(
    lambda token: st.sampled_from([
        '{"text":"a","label":"x","z":%s}',
        '{"text":"a","label":"x","z":[1,%s ]}',
        '{"text":"a","label":%s}',
        '{"z":%s ,"text":"a","label":"x"}',
    ]).map(lambda line: (line % token).encode())
)  # fmt: skip
LITERAL = st.sampled_from([
    b"", b" ", b"\r", b"\x0b", b"\xef\xbb\xbf", b"{}", b"[]", b"null", b'"x"', b"}", b"{", b"\0",
    b'{"text":"a","label":"x",}', b'{"text":"a","label":"x"}{"text":"b","label":"y"}',
    b'{"text":"a","label":"x"} {"text":"b","label":"y"}', b'\xef\xbb\xbf{"text":"a","label":"x"}',
    b'{"text":"a","label":"x","z":[{"q":1}', b'{"k":1}]}', b'{"text":"a","label":"x"}\0}', b'\0{"text":"a"}',
    b'{"text":"a\tb","label":"x"}', b"{'text':'a','label':'x'}", b'{"text":"a","label":"x"} // {}',
    b'{"text":"\\ud83d\\ude00","label":"\\u0000"}', b'{"text":"\\udc00","label":"x"}', b'{"te\\u0078t":"a"}',
    b'{"text":"\xff","label":"x"}', b'{"text":"a","label":"x","z":"\xed\xa0\x80"}', b'{"text":"a","label":"\xc3"}',
    b'{"text":"a","label":"x","text":null}', b'{"text":null,"label":"x","text":"b"}', b'{"text":"a","label":"x"}\xff',
])  # fmt: skip
BYTES = st.sampled_from(
    [bytes([one]) for one in b'{}[]",:\\ \r\n\0\t0eINnu\xff\xc3'] + [b"text", b'"', b"\\u", b"label"]
)


@st.composite
def damaged(draw, contents):
    """:return: the content with a few bytes put in, taken out or written over."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 2))] = draw(BYTES | st.just(b""))
    return bytes(content)


JSON_LINES = st.lists(st.one_of(GOOD, GOOD, PLAIN, TOKENS, LITERAL, damaged(PLAIN), damaged(GOOD)), max_size=40)


@thorough
@given(JSON_LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.sampled_from(COLUMNS), st.integers(1, 900))
@example([b'{"text":"a","label":"x"}'] * 50 + [b'{"text":"a"'] * 30, b"\n", True, COLUMNS[0], 10_000)
@example([b'{"text":"a","label":"x","z":"\xff"}', b'{"text":"\xff","label":"x"}'] * 30, b"\n", True, COLUMNS[0], 10_000)
@example(
    [b'{"text":"a","label":"x"}{"text":"a","label":"x"}', b'{"text":"c","label":"x"}\0}'], b"\n", True, COLUMNS[0], 999
)
@example(
    [b'{"text":"a","label":"x"}{"text":"b","label":"y"}', b'{"text":"a"', b',"label":"x"}'],
    b"\n",
    True,
    COLUMNS[0],
    900,
)
@example([b'{"text":"a","label":"x"} {"text":"b"}', b"", b'{"text":"a","label":"x"}'], b"\n", True, COLUMNS[0], 900)
@example([b'{"text":"a","label":"x"}'] * 3, b"\n", True, COLUMNS[1], 30)
@example([b'{"text":"a","label":"x","time":null}'] * 3, b"\n", True, COLUMNS[1], 30)
def test_jsonl(lines, end, is_ended, columns, block_bytes):
    content = end.join(lines) + (end if is_ended else b"")
    assume(is_plain_utf8(content))
    assert rows_of(read_jsonl, content, columns, block_bytes) == jsonl_row_by_row(content, columns)


FIELDS = st.one_of(
    st.text(max_size=6),
    st.text('",\t\n\r\0 ax', max_size=6),
    st.sampled_from(["", "NULL", "\ufeff", "2026-01-01T00:00:00Z", "1700000000", "20260101", "é"]),
)


@st.composite
def delimited(draw, delimiter):
    names = draw(st.permutations(["text", "label", "time", 'a."b', "", "id"]))[: draw(st.integers(2, 6))]
    if draw(st.integers(0, 9)):
        names = list(dict.fromkeys([*names, "text", "label", "time"]))
    rows = st.lists(FIELDS, min_size=len(names), max_size=len(names)) | st.lists(FIELDS, max_size=5)
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    ends = draw(st.sampled_from(["\n", "\r\n", "\r"]) if not draw(st.integers(0, 3)) else st.just("\n"))
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=quoting)
    writer.writerow(names)
    for row in draw(st.lists(rows, max_size=30)):
        match draw(st.sampled_from(["written", "written", "raw", "blank"])):
            case "written":
                writer.writerow(row)
            case "raw":  # as a writer that knows of no quoting
                text.write(delimiter.join(row) + ends)
            case _:
                text.write(ends)
    return text.getvalue().encode()


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("columns", COLUMNS)
@thorough
@given(st.data())
def test_delimited(delimiter, columns, data):
    content = data.draw(damaged(delimited(delimiter)))
    assume(is_plain_utf8(content))
    block_bytes = data.draw(st.integers(1, 300))
    fast = rows_of(read_delimited, content, columns, block_bytes, delimiter=delimiter)
    assert fast == delimited_row_by_row(content, columns, delimiter)


MOMENTS = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31, 23, 59, 59, 999999))
TIME_TEXTS = st.one_of(
    MOMENTS.map(lambda moment: moment.isoformat()),
    MOMENTS.map(lambda moment: moment.isoformat(" ", "seconds") + "Z"),
    MOMENTS.map(lambda moment: moment.date().isoformat()),
    st.builds(lambda moment, minutes: f"{moment.isoformat()}{minutes}", MOMENTS, st.sampled_from(["+02:00", "-2330"])),
    st.sampled_from(["", "2026", "20260101", "0000-01-01", "2026-01-01T24:00", "2026-01-01T23:59:60", "1e9", "0x10"]),
    st.sampled_from(["2026-01-01 12", "2026-01-01T1230", "2026-W01-1", "2026-01-01T00:00:00.123456789", " 2026-01-01"]),
    st.integers(-(10**19), 10**19).map(str),
    st.integers(10**8, 10**13).map(str),
    st.text("0123456789-:TZ+. ", max_size=20),
)
NUMBERS = st.one_of(
    st.integers(-(2**62), 2**62).map(float),
    st.floats(),
    st.floats(-1e12, 1e12),
    st.sampled_from([1e11, -1e11, 253402300799.0, 253402300799999.0, 253402300800000.0, -62135596800000.0]),
)


@thorough
@given(
    st.one_of(*(st.lists(kind | st.none()) for kind in (TIME_TEXTS, st.integers(10**9, 2 * 10**9).map(str), NUMBERS)))
)
def test_times(values):
    kind = pyarrow.float64() if any(isinstance(value, float) for value in values) else pyarrow.string()
    found = times_of(pyarrow.array(values, kind))
    assert found.type == pyarrow.timestamp("us", "UTC")
    assert found.to_pylist() == [time_of(value) for value in values]


@thorough
@given(st.lists(MOMENTS | st.none()), st.sampled_from(["s", "ms", "us"]), st.sampled_from([None, "UTC", "Asia/Tokyo"]))
def test_timestamps(moments, unit, zone):
    step = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}[unit]
    whole = [None if moment is None else moment - (moment - datetime.min) % step for moment in moments]
    values = pyarrow.array(whole, pyarrow.timestamp(unit)).cast(pyarrow.int64()).cast(pyarrow.timestamp(unit, zone))
    expected = [None if moment is None else moment.replace(tzinfo=UTC) for moment in whole]
    assert times_of(values).to_pylist() == expected
