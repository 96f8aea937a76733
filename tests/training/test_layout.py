import duckdb
import pytest

from training.layout import create_table


@pytest.mark.parametrize("rows", [[], [("a", 1, -(2**62), 2**64 - 1), ("b", 2, 5, 3)]])
def test_a_table_holds_what_it_was_given_also_the_largest_hashes(rows):
    with duckdb.connect() as db:
        create_table(db, "t", {"label": "VARCHAR", "object": "INTEGER", "batch": "BIGINT", "h0": "UBIGINT"}, rows)
        assert db.sql("FROM t").fetchall() == rows
        assert db.sql("FROM t").types == ["VARCHAR", "INTEGER", "BIGINT", "UBIGINT"]


def test_a_table_is_made_anew_each_time():
    with duckdb.connect() as db:
        create_table(db, "t", {"label": "VARCHAR"}, [("a",)])
        create_table(db, "t", {"label": "VARCHAR"}, [("b",)])
        assert db.sql("FROM t").fetchall() == [("b",)]
