import gzip
import io
import json
import os
import pickle
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import feather, ipc, parquet

from training.contract import BadInput
from training.sources import BadRow, Columns, ReadFailed, Row, open_source
from training.sources import part as boundary
from training.sources.columnar import blocks_of
from training.sources.part import check_keys

COLUMNS = Columns("text", "label")
ROWS = [("good film", "pos"), ('he said "no", twice', "neg"), ("two\nlines", "neg"), ("ÄÖÜ 💳", "pos")]


def rows_of(uri, columns=COLUMNS, **options):
    """:return: every row of the source, whichever way its batch holds it, in the order of the source."""
    return [row for part in open_source(str(uri), **options).parts for row in rows_of_part(part, columns)]


def rows_of_part(part, columns=COLUMNS):
    rows, keys = [], []
    for block in part.read(columns):
        batch = block.parse()
        keys += batch.keys
        assert batch.rows.column_names == ["row", "text", "label", *(["time"] if columns.time else [])]
        assert batch.rows.schema.types[:3] == [pyarrow.int64(), pyarrow.large_string(), pyarrow.large_string()]
        batch.rows.validate(full=True)
        assert not any(column.null_count for column in batch.rows.columns[:3])
        rows += [Row(*row.values()) for row in batch.rows.to_pylist()]
        rows += batch.others
    check_keys(part.name, keys, columns)
    return sorted(rows, key=lambda row: row.number)


def values_of(uri, **options):
    return [(row.text, row.label) for row in rows_of(uri, **options)]


def write_stream(table, buffer):
    with ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)


BINARY = {
    "parquet": parquet.write_table,
    "feather": lambda table, buffer: feather.write_feather(table, buffer, chunksize=2),
    "arrow": write_stream,
}


def written(kind, rows=ROWS, columns=COLUMNS):
    """:return: the rows as a file of this format, as its own common writer makes it."""
    if kind == "jsonl":
        return "".join(json.dumps(dict(zip(columns[:2], row, strict=True))) + "\n" for row in rows).encode()
    if kind in BINARY:
        buffer = io.BytesIO()
        texts, labels = zip(*rows, strict=True)
        BINARY[kind](pyarrow.table({columns.text: texts, columns.label: labels}), buffer)
        return buffer.getvalue()
    import csv

    text = io.StringIO()
    csv.writer(text, delimiter="\t" if kind == "tsv" else ",").writerows([columns[:2], *rows])
    return text.getvalue().encode()


COMPRESS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", *BINARY])
def test_every_format_plain_or_compressed_gives_the_same_rows(tmp_path, kind, compression):
    path = tmp_path / f"rows.{kind}{compression}"
    path.write_bytes(COMPRESS[compression](written(kind)))
    assert values_of(path) == ROWS
    assert values_of(path.as_uri()) == ROWS


def test_the_first_bytes_say_what_is_compressed_whatever_the_name_says(tmp_path):
    (tmp_path / "rows.csv").write_bytes(gzip.compress(written("csv")))
    assert values_of(tmp_path / "rows.csv") == ROWS


def test_a_given_format_overrides_the_name(tmp_path):
    (tmp_path / "rows.txt").write_bytes(written("tsv"))
    assert values_of(tmp_path / "rows.txt", file_format="tsv") == ROWS


def test_names_with_spaces_and_brackets_are_found(tmp_path):
    folder = tmp_path / "my data [old]"
    folder.mkdir()
    (folder / "a [1].csv").write_bytes(written("csv"))
    assert values_of(folder / "a [1].csv") == ROWS
    assert values_of((folder / "a [1].csv").as_uri()) == ROWS


def test_a_folder_gives_its_data_files_and_passes_over_hidden_and_unfinished_ones(tmp_path):
    for name in ("a.csv", "deep/b.jsonl", "c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(written(name.rpartition(".")[2]))
    for name in ("._a.csv", ".hidden/x.csv", "x.csv.part", "y.csv.tmp", "z.csv~", "_temporary/q.csv", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not data")
    source = open_source(str(tmp_path))
    assert [part.name.removeprefix(f"{tmp_path}/") for part in source.parts] == ["a.csv", "c.parquet", "deep/b.jsonl"]
    assert source.described["files"] == 3
    assert source.described["bytes"] == sum(part.bytes for part in source.parts)


def test_a_glob_gives_what_it_matches_in_order(tmp_path):
    for name in ("b.csv", "a.csv", "c.tsv", ".a.csv"):
        (tmp_path / name).write_bytes(written("csv"))
    assert [part.name for part in open_source(f"{tmp_path}/*.csv").parts] == [f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]


@pytest.mark.parametrize("what", ["nothing.csv", "*.csv", "empty"])
def test_no_file_is_refused_with_what_was_asked_for(tmp_path, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="matches no file"):
        open_source(f"{tmp_path}/{what}")


def test_a_folder_without_data_files_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("hello")
    with pytest.raises(BadInput, match="no data file"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("name", ["rows.json", "rows.xlsx", "rows", "rows.gz"])
def test_an_unknown_ending_is_refused_with_those_that_are_known(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match=r"\.csv, \.tsv, \.jsonl"):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize("how", ["/proc/self/environ", "a link", "a linked folder", "simplecache::/proc/self/environ"])
def test_what_is_the_systems_is_no_data_by_whatever_name_and_nothing_of_it_is_shown(tmp_path, monkeypatch, how):
    secret = Path("/proc/self/environ").read_bytes().partition(b"=")[0].decode()
    uri = how
    if how == "a link":
        (tmp_path / "rows.csv").symlink_to("/proc/self/environ")
        uri = str(tmp_path / "rows.csv")
    elif how == "a linked folder":
        (tmp_path / "folder").symlink_to("/proc/self")
        uri = f"{tmp_path}/folder/env*"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"below /proc, /dev, /sys there is no data|matches no file") as refused:
        rows_of(uri, file_format="csv")
    assert secret not in str(refused.value)


@pytest.mark.parametrize("name", ["bad\udcff.csv", "\x1b[31mred.csv"])
def test_a_name_that_cannot_be_told_is_refused(tmp_path, name):
    (tmp_path / name).write_text("text,label\na,x\n")
    with pytest.raises(BadInput, match=r"(udcff|x1b).*Rename the file"):
        open_source(str(tmp_path))


def test_a_file_from_before_all_years_is_read(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na,x\n")
    os.utime(tmp_path / "rows.csv", (-(2**36), -(2**36)))
    assert values_of(tmp_path / "rows.csv") == [("a", "x")]


@pytest.mark.parametrize("uri", ["", "/*.csv", "/loop.csv"])
def test_a_link_that_leads_to_itself_is_named_and_not_tried_again(tmp_path, uri):
    (tmp_path / "rows.csv").write_text("text,label\na,x\n")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(BadInput, match=r"loop\.csv: a link that leads back to itself.*Remove the link"):
        open_source(f"{tmp_path}{uri}")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    for uri in (tmp_path / "rows.csv", tmp_path / "link.csv", tmp_path):
        with pytest.raises(BadInput, match=r"no data file|matches no file"):
            open_source(str(uri))


def test_a_double_colon_in_a_file_name_is_a_part_of_the_name(tmp_path, monkeypatch):
    (tmp_path / "films::old.csv").write_bytes(written("csv"))
    monkeypatch.chdir(tmp_path)
    assert values_of("films::old.csv") == ROWS


def test_an_unknown_scheme_is_refused():
    with pytest.raises(BadInput, match="ftp"):
        open_source("ftp://host/rows.csv")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", *BINARY])
def test_a_missing_column_is_refused_with_file_columns_and_the_nearest(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(written(kind, columns=Columns("Texts", "label")))
    with pytest.raises(BadInput) as refused:
        rows_of(path)
    for part in (str(path), "no column 'text'", "'Texts', 'label'", "Did you mean 'Texts'?"):
        assert part in str(refused.value)


def test_semicolons_in_a_csv_file_are_recognised_in_the_refusal(tmp_path):
    (tmp_path / "rows.csv").write_text("text;label\na;b\n")
    with pytest.raises(BadInput, match="not separated as this format has them"):
        rows_of(tmp_path / "rows.csv")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_of_a_long_column_name_little_is_shown(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(written(kind, columns=Columns("texts" + "s" * 500 + "ecret", "label")))
    with pytest.raises(BadInput) as refused:
        rows_of(path)
    assert f"'texts{'s' * 52}...'" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_name_with_control_characters_is_not_shown(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(written(kind, columns=Columns("text\x00TOKEN=hunter2", "label")))
    with pytest.raises(BadInput, match=r"Columns found: 'label'\. Not shown: 1 with control") as refused:
        rows_of(path)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("text,label,label\na,b,c\n")
    else:
        parquet.write_table(pyarrow.Table.from_arrays([["a"], ["b"], ["c"]], names=["text", "label", "label"]), path)
    with pytest.raises(BadInput, match=r"'label' .* 2 times"):
        rows_of(path)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(b"\xef\xbb\xbf" + written(kind))
    assert values_of(path) == ROWS


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        *((name, name.upper()) for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "jsonl.gz"])
def test_another_encoding_is_refused_as_a_whole_with_its_name(tmp_path, kind, encoding, named):
    path = tmp_path / f"rows.{kind}"
    content = written(kind.partition(".")[0]).decode().encode(encoding)
    path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    with pytest.raises(BadInput, match=f"by its first bytes this is {named}. Save it as UTF-8"):
        rows_of(path)


@pytest.mark.parametrize("compression", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", *BINARY])
def test_a_truncated_archive_is_refused_by_name(tmp_path, kind, compression):
    path = tmp_path / f"rows.{kind}{compression}"
    rows = [(f"film {i} {hash(str(i))}", "pos") for i in range(2000)]
    whole = COMPRESS[compression](written(kind, rows))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(BadInput, match=f"{path.name}: damaged or cut off"):
        rows_of(path)


@pytest.mark.parametrize("kind", BINARY)
def test_a_file_that_is_cut_off_anywhere_is_refused_by_name(tmp_path, kind):
    whole = written(kind, [(f"film {i}", "pos") for i in range(5)])
    path = tmp_path / f"rows.{kind}"
    for size in range(1, len(whole), 3):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput, match=rf"rows\.{kind}: (not (Parquet|Arrow), or only a part|damaged or cut off)"):
            rows_of(path)


def test_the_first_version_of_feather_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "rows.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(BadInput, match="Save it as Parquet"):
        rows_of(tmp_path / "rows.feather")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", "rows.csv.gz"])
def test_an_empty_file_is_reported_not_passed_over(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    assert rows_of(tmp_path / name) == [BadRow(0, "empty file")]


def test_row_numbers_are_the_lines_of_the_file(tmp_path):
    (tmp_path / "rows.csv").write_text('text,label\na,x\n\n"two\nlines",y\nb,z\n')
    assert [row.number for row in rows_of(tmp_path / "rows.csv")] == [2, 4, 6]
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y"}\n')
    assert [row.number for row in rows_of(tmp_path / "rows.jsonl")] == [1, 3]


def test_row_numbers_of_parquet_go_on_from_batch_to_batch(tmp_path):
    rows = [(f"text {i}", "pos") for i in range(10_000)]
    (tmp_path / "rows.parquet").write_bytes(written("parquet", rows))
    assert [row.number for row in rows_of(tmp_path / "rows.parquet")] == list(range(1, 10_001))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('a,x\n"b,y\nc,z\n', [Row(2, "a", "x"), BadRow(3, "broken quote"), Row(4, "c", "z")]),
        ('"a" b,x\nc,z\n', [BadRow(2, "broken quote"), Row(3, "c", "z")]),
        ('"a,x\nb,y\n"c",z\n', [BadRow(2, "broken quote"), Row(3, "b", "y"), Row(4, "c", "z")]),
        ("a,x\nb\nc,z,1\nd,w\n", [
            Row(2, "a", "x"),
            BadRow(3, "wrong number of columns"),
            BadRow(4, "wrong number of columns"),
            Row(5, "d", "w"),
        ]),
        ('say ""hi"",x\n"say ""hi""",y\n', [Row(2, 'say ""hi""', "x"), Row(3, 'say "hi"', "y")]),
    ],
)  # fmt: skip
def test_a_broken_csv_row_costs_itself_alone(tmp_path, content, expected):
    (tmp_path / "rows.csv").write_text("text,label\n" + content)
    assert rows_of(tmp_path / "rows.csv") == expected


def test_a_quote_that_is_never_closed_costs_one_row_of_a_large_file(tmp_path):
    lines = [f"text number {i},pos\n" for i in range(50_000)]
    lines[100] = '"open,pos\n'
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(lines))
    rows = rows_of(tmp_path / "rows.csv")
    assert len(rows) == 50_000
    assert [row for row in rows if isinstance(row, BadRow)] == [BadRow(102, "broken quote")]


def test_a_text_of_many_lines_is_one_row_however_long(tmp_path):
    text = "a line, with a comma\n" * 20_000
    (tmp_path / "rows.csv").write_bytes(written("csv", [(text, "pos"), ("b", "neg")]))
    assert values_of(tmp_path / "rows.csv") == [(text, "pos"), ("b", "neg")]


def test_a_line_that_no_text_can_be_costs_itself_alone_and_says_why(tmp_path):
    (tmp_path / "rows.csv").write_text(f"text,label\n{'a' * (17 << 20)},x\nb,y\n")
    assert rows_of(tmp_path / "rows.csv") == [BadRow(2, "field too long"), Row(3, "b", "y")]


def test_a_tsv_file_written_without_quoting_loses_no_row_silently(tmp_path):
    (tmp_path / "rows.tsv").write_text('text\tlabel\n"open\tx\nb\ty\nclosed"\tz\nc\tw\n')
    rows = [BadRow(2, "broken quote"), Row(3, "b", "y"), Row(4, 'closed"', "z"), Row(5, "c", "w")]
    assert rows_of(tmp_path / "rows.tsv") == rows
    (tmp_path / "rows.tsv").write_text('label\ttext\nx\t"open\ny\tclosed"\nz\tc\n')
    assert rows_of(tmp_path / "rows.tsv") == [BadRow(2, "broken quote"), Row(3, 'closed"', "y"), Row(4, "c", "z")]


def test_windows_and_old_mac_line_ends_are_line_ends(tmp_path):
    for end in ("\r\n", "\r"):
        (tmp_path / "rows.csv").write_bytes(end.join(["text,label", "a,x", "b,y", ""]).encode())
        assert values_of(tmp_path / "rows.csv") == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "a"', "broken JSON"),
        ("not json", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ('["a", "x"]', "not a JSON object"),
        ("null", "not a JSON object"),
    ],
)
def test_a_broken_json_line_costs_itself_alone(tmp_path, line, reason):
    good = json.dumps({"text": "a", "label": "x"})
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    assert rows_of(tmp_path / "rows.jsonl") == [Row(1, "a", "x"), BadRow(2, reason), Row(3, "a", "x")]


def test_a_bad_byte_in_a_column_that_is_not_used_costs_nothing(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"text,note,label\ngood,\xff\xfe,pos\n")
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "good", "note": "\xff", "label": "pos"}\n')
    assert values_of(tmp_path / "rows.csv") == values_of(tmp_path / "rows.jsonl") == [("good", "pos")]


def test_a_key_that_a_json_line_lacks_is_an_empty_value(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b", "label": "y"}\n')
    assert rows_of(tmp_path / "rows.jsonl") == [Row(1, "a", None), Row(2, "b", "y")]


def test_a_key_that_no_json_line_has_is_refused_however_the_blocks_are_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(boundary, "BLOCK_BYTES", 100)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n' * 20)
    columns = Columns("text", "label", "when")
    batches = [block.parse() for block in open_source(str(path)).parts[0].read(columns)]
    assert sum(batch.rows.num_rows for batch in batches) == 20
    with pytest.raises(BadInput, match=r"no column 'when' \(time\)\. Columns found: 'text', 'label'"):
        check_keys(str(path), dict.fromkeys(key for batch in batches for key in batch.keys), columns)


def held(path, columns=COLUMNS):
    """:return: the rows that need no looking at one by one, and the others."""
    batches = [block.parse() for part in open_source(str(path)).parts for block in part.read(columns)]
    rows = [tuple(row.values())[1:] for batch in batches for row in batch.rows.to_pylist()]
    return rows, [row for batch in batches for row in batch.others]


def test_numbers_and_booleans_are_labels_by_name(tmp_path):
    labels = [1, "1", True, False, -0, 2.0, -3, 2**53 + 1, 0.5, None]
    lines = [json.dumps({"text": "a", "label": label}) for label in labels]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    rows, others = held(tmp_path / "rows.jsonl")
    assert [label for _, label in rows] == ["1", "1", "true", "false", "0", "2", "-3", "9007199254740993", "0.5"]
    assert [row.label for row in others] == [None]


@pytest.mark.parametrize(
    ("labels", "names", "others"),
    [
        (pyarrow.array([1, -2, None]), ["1", "-2"], [None]),
        (pyarrow.array([2**64 - 1, 0, 7], pyarrow.uint64()), ["18446744073709551615", "0", "7"], []),
        (pyarrow.array([True, None, False]), ["true", "false"], [None]),
        (pyarrow.array(["a", None, "a"]).dictionary_encode(), ["a", "a"], [None]),
        (pyarrow.array([b"a", b"b", "ä".encode()], pyarrow.binary()), ["a", "b", "ä"], []),
        (pyarrow.array([b"a", b"\xff", None], pyarrow.large_binary()), [], [b"a", b"\xff", None]),
        (pyarrow.array([1.0, 0.5, None]), [], [1.0, 0.5, None]),
        (pyarrow.array([["a"], [], None]), [], [["a"], [], None]),
        (pyarrow.nulls(3), [], [None, None, None]),
        (
            pyarrow.array([1, 2**31 - 1, None], pyarrow.int32()).cast(pyarrow.date32()),
            [],
            [date(1970, 1, 2), ..., None],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_labels_of_any_type_are_named_at_once_or_left_as_they_are(tmp_path, kind, labels, names, others):
    with (tmp_path / f"rows.{kind}").open("wb") as file:
        BINARY[kind](pyarrow.table({"text": ["x", "y", "z"], "label": labels}), file)
    rows, left = held(tmp_path / f"rows.{kind}")
    assert [label for _, label in rows] == names
    assert [row.label for row in left] == others
    assert sorted([text for text, _ in rows] + [row.text for row in left]) == ["x", "y", "z"]


def test_strings_with_bytes_that_are_no_characters_stay_bytes(tmp_path):
    broken = pyarrow.array([b"good", b"\xff\xfe"], pyarrow.binary())
    texts = pyarrow.StringArray.from_buffers(2, *broken.buffers()[1:])
    with (tmp_path / "rows.parquet").open("wb") as file:
        parquet.write_table(pyarrow.table({"text": texts, "label": ["x", "y"]}), file)
    assert rows_of(tmp_path / "rows.parquet") == [Row(1, "good", "x"), Row(2, b"\xff\xfe", "y")]


MOMENT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "feather"])
def test_a_time_is_understood_in_every_format_and_a_bad_one_is_none(tmp_path, kind):
    naive = MOMENT.replace(tzinfo=None)
    if kind in BINARY:
        times = [naive, None, naive, naive, naive]
        table = pyarrow.table({"text": list("abcde"), "label": list("vwxyz"), "when": times})
        with (tmp_path / f"rows.{kind}").open("wb") as file:
            BINARY[kind](table, file)
    else:
        times = ["2026-03-01T14:30:00+02:00", "soon", "2026-03-01 12:30", naive.isoformat(), 1772368200000]
        lines = [
            dict(zip(("text", "label", "when"), row, strict=True)) for row in zip("abcde", "vwxyz", times, strict=True)
        ]
        if kind == "jsonl":
            content = "\n".join(map(json.dumps, lines))
        else:
            content = "\n".join(
                {"csv": ",", "tsv": "\t"}[kind].join(map(str, row))
                for row in [lines[0], *(line.values() for line in lines)]
            )
        (tmp_path / f"rows.{kind}").write_text(content)
    found = rows_of(tmp_path / f"rows.{kind}", Columns("text", "label", "when"))
    assert [row.time for row in found] == [MOMENT, None, MOMENT, MOMENT, MOMENT]


def test_reading_is_no_faster_than_parsing(monkeypatch):
    """What is not asked for yet is not in memory."""
    monkeypatch.setattr(boundary, "BLOCK_BYTES", 1000)
    made = []

    def tables():
        for number in range(100):
            made.append(number)
            yield pyarrow.table({"text": ["t" * 100] * 5, "label": ["x"] * 5})

    blocks = blocks_of(tables(), COLUMNS)
    for asked in range(1, 20):
        assert next(blocks).parse().rows.num_rows == 5
        assert len(made) <= asked + 1


def test_of_a_plain_file_another_process_is_sent_the_place_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps({"text": f"text {n}", "label": "x"}) + "\n" for n in range(5000)))
    [block] = open_source(str(path)).parts[0].read(COLUMNS)
    sent = pickle.dumps(block)
    assert len(sent) < 1000
    assert pickle.loads(sent).parse().rows == block.parse().rows
    path.write_text("no more")
    with pytest.raises(ReadFailed, match="changed since the source was listed"):
        pickle.loads(sent).parse()
