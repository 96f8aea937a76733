"""Read a test set: the test split of a snapshot, or any Parquet file with a text and a label column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.contract import BadInput
from training.rows import Unusable, label_of, text_of
from training.snapshot import open_snapshot, read_split
from training.store import for_fsspec


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


def _read_snapshot(uri: str) -> tuple[list[str], list[str]]:
    rows = read_split(*open_snapshot(uri), "test")
    return [text for text, _label in rows], [label for _text, label in rows]


def _read_parquet(uri: str, text: str, label: str) -> tuple[list[str], list[str]]:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(for_fsspec(uri), "rb") as file:
            source = pq.ParquetFile(file)
            found = source.schema_arrow.names
            if absent := [column for column in (text, label) if column not in found]:
                raise BadInput(f"{uri}: no column {', '.join(absent)}; it has {', '.join(found)}.")
            table = source.read(columns=list(dict.fromkeys((text, label))))
    except FileNotFoundError as error:
        raise BadInput(f"{uri} does not exist.") from error
    except pa.ArrowInvalid as error:
        raise BadInput(f"{uri} is no readable Parquet file: {error}") from error
    texts, labels = table.column(text).to_pylist(), table.column(label).to_pylist()
    return (
        _each(texts, text_of, uri, f"no text in {text!r}"),
        _each(labels, label_of, uri, f"no label in {label!r}"),
    )


def _each(values: list[object], read: Callable[[object], str], uri: str, lack: str) -> list[str]:
    """:return: the values as ingest reads them, so that a label means the same here as in training."""
    made = []
    for row, value in enumerate(values):
        try:
            made.append(read(value))
        except Unusable as error:
            raise BadInput(f"{uri}: row {row} has {lack} ({error}: {value!r:.60}).") from None
    return made
