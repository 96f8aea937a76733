"""Read a test set: the test split of a snapshot, or any Parquet file with a text and a label column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from training.contract import BadInput
from training.rows import Unusable, label_of, text_of
from training.snapshot import open_snapshot, read_split
from training.store import for_fsspec
from training.text import text_hash


@dataclass(frozen=True)
class TestSet:
    uri: str
    digest: str  # over texts and labels in their order: the same rows are the same test set wherever they are kept
    texts: list[str]
    labels: list[str]
    places: Sequence[int] = ()  # of the rows, among all that ``uri`` has

    __test__ = False  # the name is not a pytest class


def read_test_set(
    uri: str, text: str, label: str, *, leave_out: Callable[[str], bool] = lambda _text: False
) -> TestSet:
    """
    :param uri: directory of a snapshot, or a Parquet file; a path, ``file://`` or ``s3://``.
    :param text: column of a Parquet file; a snapshot has its own names.
    :param label: likewise.
    :param leave_out: whether a text is not to be looked at.
    :raises BadInput: there is nothing, a column is missing, or a row has no text or no label.
    """
    if uri.endswith(".parquet"):
        texts, labels = _read_parquet(uri, text, label)
    else:
        texts, labels = _read_snapshot(uri.rstrip("/"))
    places = [place for place, content in enumerate(texts) if not leave_out(content)]
    rows = [(texts[place], labels[place]) for place in places]
    if not rows:
        raise BadInput(f"{uri}: the test set is empty, so nothing can be judged by it.")
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode())
    return TestSet(uri, digest.hexdigest(), [text for text, _label in rows], [label for _text, label in rows], places)


def find_texts(uri: str, text: str, hashes: Collection[str]) -> dict[str, str]:
    """
    :param uri: as in ``read_test_set``, and so is ``text``.
    :return: by their hash, those of the texts that the test set has.
    :raises BadInput: it is gone or damaged.
    """
    if uri.endswith(".parquet"):
        texts = _each(_read_columns(uri, text)[text], text_of, uri, f"no text in {text!r}")
    else:
        texts, _labels = _read_snapshot(uri.rstrip("/"))
    return {known: content for content in texts if (known := text_hash(content)) in hashes}


def _read_snapshot(uri: str) -> tuple[list[str], list[str]]:
    rows = read_split(*open_snapshot(uri), "test")
    return [text for text, _label in rows], [label for _text, label in rows]


def _read_parquet(uri: str, text: str, label: str) -> tuple[list[str], list[str]]:
    columns = _read_columns(uri, text, label)
    return (
        _each(columns[text], text_of, uri, f"no text in {text!r}"),
        _each(columns[label], label_of, uri, f"no label in {label!r}"),
    )


def _read_columns(uri: str, *names: str) -> dict[str, list[object]]:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(for_fsspec(uri), "rb") as file:
            source = pq.ParquetFile(file)
            found = source.schema_arrow.names
            if absent := [column for column in names if column not in found]:
                raise BadInput(f"{uri}: no column {', '.join(absent)}; it has {', '.join(found)}.")
            table = source.read(columns=list(dict.fromkeys(names)))
    except FileNotFoundError as error:
        raise BadInput(f"{uri} does not exist.") from error
    except pa.ArrowInvalid as error:
        raise BadInput(f"{uri} is no readable Parquet file: {error}") from error
    return {name: table.column(name).to_pylist() for name in names}


def _each(values: list[object], read: Callable[[object], str], uri: str, lack: str) -> list[str]:
    """:return: the values as ingest reads them, so that a label means the same here as in training."""
    made = []
    for row, value in enumerate(values):
        try:
            made.append(read(value))
        except Unusable as error:
            raise BadInput(f"{uri}: row {row} has {lack} ({error}: {value!r:.60}).") from None
    return made
