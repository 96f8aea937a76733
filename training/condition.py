"""Ask a condition, an SQL expression that somebody wrote, of each row of a table; it can read nothing but that row."""

from __future__ import annotations

import difflib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training.contract import BadInput
from training.cores import cores

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow

SECONDS = 30.0  # assumed: a condition that takes longer on a test set is a slip
SETTINGS: Mapping[str, Any] = {
    "enable_external_access": False,  # no files, no network, no extensions
    "python_enable_replacements": False,  # nor the variables of this process
    "autoload_known_extensions": False,
    "memory_limit": "800MB",
    "lock_configuration": True,
}
# Macros of DuckDB that say the same of the same row; others look at the clock, at the catalogue or at many rows
MACROS = frozenset({"if", "nullif", "split_part", "date_add", "days_in_month"})
CLOCKS = frozenset({"age", "current_localtime", "current_localtimestamp"})  # DuckDB calls them consistent
REFUSED = {
    "SUBQUERY": "a query",
    "WINDOW": "a window over other rows",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "a column by its number",
    "LAMBDA": "a lambda",
}


class Conditions:
    """The rows of a table, in a database of their own that has no access to anything else."""

    def __init__(self, db: duckdb.DuckDBPyConnection, rows: pyarrow.Table) -> None:
        self._db = db
        self._columns = {name.casefold(): name for name in rows.column_names}
        self._count = rows.num_rows
        db.register("rows", rows)

    @classmethod
    @contextmanager
    def about(cls, rows: pyarrow.Table) -> Iterator[Conditions]:
        """:param rows: no two of its columns have the same name but for upper and lower case."""
        import duckdb

        with duckdb.connect(config={**SETTINGS, "threads": cores()}) as db:
            yield cls(db, rows)

    def holds(self, condition: str) -> np.ndarray:
        """
        :return: bool of each row; where the condition is null it does not hold.
        :raises BadInput: it is none, asks for more than its row, or fails for a row.
        """
        import duckdb

        try:
            expression = duckdb.SQLExpression(condition)
        except duckdb.Error as error:
            raise BadInput(f"expected an SQL expression; {_told(error)}") from error
        self._check(condition)
        timer = threading.Timer(SECONDS, self._db.interrupt)
        timer.start()
        try:
            found = self._db.table("rows").select(expression)
            [kind] = found.types
            if str(kind) != "BOOLEAN":
                raise BadInput(f"expected a condition, which is true or false; this is of type {kind}")
            answers = found.to_arrow_table().column(0)
        except duckdb.InterruptException as error:
            raise BadInput(f"it took longer than {SECONDS:g} s") from error
        except duckdb.Error as error:
            raise BadInput(_told(error)) from error
        finally:
            timer.cancel()
        if len(answers) != self._count:
            raise BadInput("expected an answer for each row by itself")
        return answers.combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)

    def _check(self, condition: str) -> None:
        """:raises BadInput: another row, the clock or chance has a say in it."""
        # in brackets and on a line of its own: a comment at its end hides nothing but itself
        [(parsed,)] = self._db.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{condition}\n)"]).fetchall()
        tree = json.loads(parsed)
        if tree["error"]:  # it is more than an expression
            raise BadInput(f"expected an SQL expression; {tree['error_message']}")
        for node in _nodes(tree["statements"]):
            kind = node.get("class")
            if kind in REFUSED:
                raise BadInput(f"expected an expression about one row, without {REFUSED[kind]}")
            if kind == "COLUMN_REF" and ".".join(node["column_names"]).casefold() not in self._columns:
                raise BadInput(_unknown("column", ".".join(node["column_names"]), self._columns.values()))
            if kind == "FUNCTION" and node["function_name"].casefold() not in self._functions:
                name = node["function_name"]
                raise BadInput(
                    f"{name}() is no function whose value follows from one row alone; expected none that looks at the "
                    "clock, at chance or at other rows"
                )

    @cached_property
    def _functions(self) -> frozenset[str]:
        found = self._db.sql(
            "SELECT function_name FROM duckdb_functions() WHERE function_type = 'scalar' "
            "GROUP BY function_name HAVING bool_and(stability = 'CONSISTENT')"
        ).fetchall()
        return (frozenset(name for (name,) in found) | MACROS) - CLOCKS


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"no {what} {name!r}{meant} There are: {', '.join(known)}"


def _told(error: Exception) -> str:
    """:return: DuckDB's first line, without the name of its part, and how text becomes a number if it is about that."""
    line = str(error).splitlines()[0]
    told = line.partition("Error: ")[2] or line
    if "explicit cast" in line or "Could not convert string" in line:
        told += ". Columns that are kept are text: try_cast(NAME AS DOUBLE) makes numbers of it, and null of the rest"
    return told
