"""What goes wrong while a source is listed or read, told by name, and told apart: worth a retry, or not."""

import gzip
import os
from datetime import UTC, datetime

import pytest

from tests.training.faulty_s3 import address, answering
from training.contract import BadInput
from training.sources import Columns, ReadFailed, open_source
from training.sources import part as boundary

COLUMNS = Columns("text", "label")
ROWS = b'{"text": "a", "label": "x"}\n' * 1000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(boundary, "BLOCK_BYTES", 10_000)


def read_to_the_end(source):
    return sum(block.parse().rows.num_rows for part in source.parts for block in part.read(COLUMNS))


def test_a_version_is_another_one_when_anything_of_the_file_is(tmp_path):
    path = tmp_path / "rows.jsonl"

    def version():
        return open_source(str(path)).parts[0].version

    path.write_bytes(ROWS)
    os.utime(path, ns=(0, 1_700_000_000_000_000_001))
    part = open_source(str(path)).parts[0]
    assert (part.bytes, part.modified) == (len(ROWS), datetime.fromtimestamp(1_700_000_000, UTC))
    seen = {version()}
    assert version() in seen
    os.utime(path, ns=(0, 1_700_000_000_000_000_002))
    seen.add(version())
    (tmp_path / "other").write_bytes(ROWS)
    os.utime(tmp_path / "other", ns=(0, 1_700_000_000_000_000_002))
    (tmp_path / "other").replace(path)
    seen.add(version())
    path.write_bytes(ROWS * 2)
    os.utime(path, ns=(0, 1_700_000_000_000_000_002))
    seen.add(version())
    assert len(seen) == 4


@pytest.mark.parametrize("kind", ["appended", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read_is_worth_a_retry(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    blocks = open_source(str(path)).parts[0].read(COLUMNS)
    assert next(blocks).parse().rows.num_rows
    if kind == "appended":
        with path.open("ab") as file:
            file.write(ROWS)
    else:
        path.unlink()
    if kind == "replaced":
        path.write_bytes(ROWS)
    with pytest.raises(ReadFailed, match=r"rows\.jsonl: it (changed|is gone) since the source was listed") as failed:
        list(blocks)
    assert not isinstance(failed.value, BadInput)


def test_a_file_that_vanishes_before_it_is_read_is_worth_a_retry(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    source = open_source(str(tmp_path))
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(ReadFailed, match=r"rows\.jsonl: it is gone since the source was listed"):
        read_to_the_end(source)


def test_an_archive_that_is_still_written_is_worth_a_retry_and_one_that_is_cut_off_is_not(tmp_path):
    whole = gzip.compress(os.urandom(50_000).hex().encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole[:20_000])
    with pytest.raises(BadInput, match=r"rows\.jsonl\.gz: damaged or cut off"):
        read_to_the_end(open_source(str(path)))
    source = open_source(str(path))
    with path.open("ab") as file:
        file.write(whole[20_000:30_000])
    with pytest.raises(ReadFailed, match="it changed since the source was listed"):
        read_to_the_end(source)


def test_a_link_to_a_file_is_a_file_and_one_that_leads_nowhere_is_none(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "rows").write_bytes(ROWS)
    (tmp_path / "data" / "a.jsonl").symlink_to(tmp_path / "rows")
    (tmp_path / "data" / "b.jsonl").symlink_to(tmp_path / "nothing")
    assert [part.name for part in open_source(str(tmp_path / "data")).parts] == [f"{tmp_path}/data/a.jsonl"]
    assert read_to_the_end(open_source(f"{tmp_path}/data/*.jsonl")) == 1000


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("training.sources.jsonl.LONGEST_LINE", 50_000)
    monkeypatch.setattr("training.sources.delimited_rows.LONGEST_LINE", 100_000)
    for kind in ("jsonl", "csv"):
        path = tmp_path / f"rows.{kind}"
        path.write_bytes(b"text,label\n" + b"x" * 300_000)
        with pytest.raises(BadInput, match=rf"rows\.{kind}.* bytes"):
            read_to_the_end(open_source(str(path)))


def test_an_object_has_its_etag_for_a_version(bucket):
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS)
    listed, named = open_source("s3://acme/in/").parts[0], open_source("s3://acme/in/a.jsonl").parts[0]
    etag = bucket.head_object(Bucket="acme", Key="in/a.jsonl")["ETag"].strip('"')
    assert listed.version == named.version == f"{len(ROWS)}-{etag}"
    assert listed.modified == named.modified
    assert listed.modified.tzinfo
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS[:-1] + b" ")
    assert open_source("s3://acme/in/").parts[0].version != listed.version


@pytest.mark.parametrize("source", ["s3://acme/in/", "s3://acme/in/a.jsonl"])
def test_an_object_that_changes_after_it_was_listed_is_worth_a_retry(bucket, source):
    import s3fs

    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS)
    found = open_source(source)
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS.upper())
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ReadFailed, match=r"s3://acme/in/a\.jsonl: it changed since"):
        read_to_the_end(found)


def test_an_object_that_changes_while_it_is_read_is_worth_a_retry(bucket):
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS * 20)
    blocks = open_source("s3://acme/in/").parts[0].read(COLUMNS)
    next(blocks)
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS.upper() * 20)
    with pytest.raises(ReadFailed, match=r"s3://acme/in/a\.jsonl: it changed since"):
        list(blocks)


def test_an_object_that_vanishes_is_worth_a_retry(bucket):
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS)
    found = open_source("s3://acme/in/")
    bucket.delete_object(Bucket="acme", Key="in/a.jsonl")
    with pytest.raises(ReadFailed, match=r"s3://acme/in/a\.jsonl: it is gone since"):
        read_to_the_end(found)


@pytest.mark.parametrize("source", ["s3://acme/in/", "s3://acme/in/*.jsonl", "s3://acme/in/a.jsonl"])
def test_a_bucket_that_forbids_is_refused_with_what_to_check(monkeypatch, source):
    with answering(403, "AccessDenied") as endpoint:
        address(monkeypatch, endpoint)
        with pytest.raises(BadInput, match=r"S3 refused .*Check AWS_ACCESS_KEY_ID") as refused:
            open_source(source)
    assert source in str(refused.value)


@pytest.mark.parametrize("source", ["s3://acme/in/", "s3://acme/in/*.jsonl", "s3://acme/in/a.jsonl"])
@pytest.mark.parametrize(("status", "code"), [(503, "ServiceUnavailable"), (500, "InternalError"), (None, None)])
def test_a_bucket_that_does_not_answer_is_worth_a_retry(monkeypatch, source, status, code):
    with answering(status, code) as endpoint:
        address(monkeypatch, endpoint)
        with pytest.raises(ReadFailed, match="listing failed") as failed:
            open_source(source)
    assert source in str(failed.value)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(403, "AccessDenied", BadInput), (503, "ServiceUnavailable", ReadFailed), (None, None, ReadFailed)],
)
def test_an_object_that_cannot_be_read_any_more_is_named(bucket, monkeypatch, status, code, expected):
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=ROWS)
    with answering(status, code, behind=os.environ["AWS_ENDPOINT_URL_S3"]) as endpoint:
        address(monkeypatch, endpoint)
        found = open_source("s3://acme/in/")
        with pytest.raises(expected, match=r"s3://acme/in/a\.jsonl: (S3 refused|reading failed)"):
            read_to_the_end(found)
