"""
Read the answer to a query: ``sql://CONNECTION``, the database's address in ``RATCHET_SQL_URI``.

An answer has no version of its own, so the query is asked twice: once to know whether it is another one than the last
time, and, if it is, once to take the rows in. Rows come in batches of the server's cursor: memory does not grow with
their number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Split
from training.sources.blocks import Parsed, batch_of
from training.sources.part import Block, Columns, Part, ReadFailed, Row, Source, check_columns
from training.sources.times import time_of

if TYPE_CHECKING:
    from sqlalchemy import Result

ADDRESS = "RATCHET_SQL_URI"
FETCHED_ROWS = 10_000  # assumed: at once; of 10 kB each they are 100 MB


def open_sql(uri: str, query: str | None, role: Split | None) -> Source:
    """:raises BadInput: the query cannot be asked. :raises ReadFailed: the database does not answer now."""
    if not query:
        raise BadInput(f"{uri}: there is no query to ask. Give data.query.")
    version, rows = _version(uri, query)
    part = Part(uri, version, partial(_read, uri, query), split=role)
    return Source([part], {"uri": uri, "files": 1, "rows": rows})


def _version(uri: str, query: str) -> tuple[str, int]:
    """:return: what tells this answer from another one, whatever the order of its rows, and how many there are."""
    total = count = 0
    with _asked(uri, query) as result:
        names = list(result.keys())
        for rows in result.partitions(FETCHED_ROWS):
            for row in rows:
                digest = hashlib.sha256(json.dumps(list(row), default=str).encode("utf-8", "surrogatepass")).digest()
                total = (total + int.from_bytes(digest, "big")) % 2**256
            count += len(rows)
    asked = hashlib.sha256(json.dumps([query, names]).encode()).hexdigest()
    return f"{count}-{hashlib.sha256(f'{asked}{total}'.encode()).hexdigest()}", count


def _read(uri: str, query: str, columns: Columns) -> Iterator[Block]:
    with _asked(uri, query) as result:
        names = list(result.keys())
        check_columns(uri, names, columns)
        text, label = names.index(columns.text), names.index(columns.label)
        time = None if columns.time is None else names.index(columns.time)
        keep = list(map(names.index, columns.keep))
        number = 1
        for rows in result.partitions(FETCHED_ROWS):
            yield Parsed(batch_of(_rows(rows, number, text, label, time, keep), columns))
            number += len(rows)


def _rows(
    rows: Sequence[Any], first: int, text: int, label: int, time: int | None, keep: Sequence[int]
) -> Iterator[Row]:
    for number, row in enumerate(rows, start=first):
        kept = tuple(row[at] for at in keep)
        yield Row(number, row[text], row[label], None if time is None else time_of(row[time]), kept)


@contextmanager
def _asked(uri: str, query: str) -> Iterator[Result[Any]]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

    address = os.environ.get(ADDRESS)
    if not address:
        raise BadInput(f"{uri}: {ADDRESS} is not set. It holds the address of the database; the operator sets it.")
    try:
        engine = create_engine(address.replace("postgresql://", "postgresql+psycopg://", 1), hide_parameters=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadInput(
            f"{uri}: no driver for this kind of database in the training environment ({type(error).__name__}). "
            "Install one there."
        ) from error
    try:
        with engine.connect() as connection:
            yield connection.execution_options(stream_results=True, max_row_buffer=FETCHED_ROWS).execute(text(query))
    except OperationalError as error:
        raise ReadFailed(f"{uri}: the database does not answer ({_first_line(error)}).") from error
    except DBAPIError as error:
        raise BadInput(f"{uri}: the query cannot be asked ({_first_line(error)}). Nothing was read.") from error
    except SQLAlchemyError as error:
        raise BadInput(f"{uri}: {_first_line(error)}. Nothing was read.") from error
    finally:
        engine.dispose()


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
