"""Read JSON Lines: one object on each line."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator

from training.sources.part import BadRow, Columns, Row, missing_column
from training.sources.unicode import check_is_utf8


def read_jsonl(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Row | BadRow]:
    """:raises BadInput: no object of the file has one of the columns."""
    check_is_utf8(stream, name)
    objects = 0
    seen: dict[str, None] = {}  # the columns of the file, in their order; a set has none
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            # undecodable bytes survive as surrogates: they matter only in the columns that are used
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            yield BadRow(number, "broken JSON")
            continue
        if not isinstance(value, dict):
            yield BadRow(number, "not a JSON object")
            continue
        objects += 1
        if objects <= 1000 or not seen.keys() >= set(columns):
            seen.update(dict.fromkeys(value))
        yield Row(number, value.get(columns.text), value.get(columns.label))
    if objects:
        for key, wanted in columns._asdict().items():
            if wanted not in seen:
                raise missing_column(name, key, wanted, seen)
