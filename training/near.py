"""
Find the texts that are almost the same: training and validation texts that are nearly a test text, or nearly another.

What is decided about a text depends on the texts in force and on those that were ever in a test split, not on when each
came. Texts whose keys for a band are equal (training.shingles) are in one bucket. A text is compared with the first few
of each of its buckets, by identity (h0, h1): with test texts, and with texts of its own split and label whose identity
is lower. So a bucket of a hundred thousand texts of one template costs for each of them what a small one costs, and of
a chain of alike texts the one of lowest identity stays. New texts, and those that left, change what is decided about
others only in buckets where they are, or were, among the first few.

The test split itself is left as it is: its rows leave it by deletion and correction alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.buckets import COMPARED, FIRST, UNLIKE_BITS, Band, Texts, candidates
from training.keys import key_of
from training.shingles import ALIKE, similarities
from training.signatures import KEYS, SKETCH, method

if TYPE_CHECKING:
    import duckdb

NEAR_TEST, NEAR_DUPLICATE = "near_test", "near_duplicate"  # as in training.checks

_SIDES = """
    CREATE TEMP TABLE sides AS
    SELECT label, rank, row_number() OVER ()::UINTEGER AS side FROM (SELECT DISTINCT label, rank FROM every)
"""

# One row for each text. Numbers are in the order of identities, so that lower says which of two texts stays.
_STANDING = """
    CREATE OR REPLACE TEMP TABLE standing AS
    WITH placed AS (
        SELECT s.*, side, {moved} AS moved, coalesce(e.rank = 0, FALSE) AS test,
            coalesce(e.live AND e.rank > 0 AND d.reason IS NULL, FALSE) AS learnt
        FROM {signatures} s
        LEFT JOIN every e ON s.batch = e.batch AND s.object = e.object AND s.row = e.row
        LEFT JOIN sides USING (label, rank)
        LEFT JOIN settled d ON s.batch = d.batch AND s.object = d.object AND s.row = d.row
    ),
    texts AS (
        FROM placed WHERE learnt OR test OR moved
        QUALIFY row_number() OVER (PARTITION BY h0, h1 ORDER BY learnt DESC, test DESC, batch, object, row) = 1
    )
    SELECT row_number() OVER (ORDER BY h0, h1) - 1 AS number, * FROM texts
"""

_NEAR = f"""
    CREATE TEMP TABLE near AS
    WITH
    texts AS (
        SELECT number, test, s.h0, s.h1, text FROM standing s JOIN every e USING (batch, object, row)
        SEMI JOIN (SELECT number FROM candidates UNION SELECT other FROM candidates) USING (number)
    ),
    compared AS (
        SELECT p.number, o.test, similarity(t.text, o.text) AS similarity, o.h0 AS near_h0, o.h1 AS near_h1
        FROM candidates p JOIN texts t ON p.number = t.number JOIN texts o ON p.other = o.number
    ),
    nearest AS (
        SELECT number, test, min({{'unlike': 1 - similarity, 'h0': near_h0, 'h1': near_h1}}) AS other
        FROM compared GROUP BY number, test HAVING max(similarity) >= {ALIKE}
    )
    SELECT if(n.test, '{NEAR_TEST}', '{NEAR_DUPLICATE}') AS "check", batch, object, row, s.h0, s.h1,
        other.h0 AS near_h0, other.h1 AS near_h1, 1 - other.unlike AS similarity
    FROM nearest n JOIN standing s USING (number)
"""


def near_file() -> str:
    """:return: what the file is called that keeps ``near``: texts that were decided about in another way, otherwise."""
    how = {"signatures": method(), "alike": ALIKE, "chosen": [FIRST, UNLIKE_BITS, COMPARED]}
    return f"near-{key_of(how)[:16]}.parquet"


def know_similarity(db: duckdb.DuckDBPyConnection) -> None:
    """Make the function ``similarity`` of two texts known to ``db``."""
    import pyarrow

    db.create_function(
        "similarity",
        lambda texts, others: pyarrow.array(similarities(texts.to_pylist(), others.to_pylist())),
        ["VARCHAR", "VARCHAR"],
        "DOUBLE",
        type="arrow",
    )


def find_near(db: duckdb.DuckDBPyConnection, signatures: str, earlier: str | None) -> None:
    """
    Make the texts that are nearly others known to ``db``: ``near`` with check, batch, object, row, h0, h1, the near_h0
    and near_h1 of the one that is nearest, and their similarity; a text is in it once for each check.

    :param db: knows ``every`` and ``settled``, and ``touched`` if anything was decided before.
    :param signatures: relation (training.signatures).
    :param earlier: relation with what was found before, as ``near``; None: all texts are looked at.
    """
    import numpy as np
    import pyarrow

    know_similarity(db)
    db.execute(_SIDES)
    if earlier is None:
        db.execute(_STANDING.format(signatures=signatures, moved="FALSE"))
    else:
        _ask(db, signatures)
    texts = _texts(db)
    wanted = texts.learnt
    if earlier is not None:
        wanted = np.zeros(len(texts.learnt), bool)
        wanted[db.sql("SELECT number FROM standing SEMI JOIN asked USING (h0, h1)").fetchnumpy()["number"]] = True
    numbers, others = candidates(texts, _bands(db, texts), wanted)
    db.register("found", pyarrow.table({"number": numbers, "other": others}))
    db.execute("CREATE TEMP TABLE candidates AS FROM found")
    db.unregister("found")
    db.execute(_NEAR)
    if earlier is not None:
        db.execute(f"INSERT INTO near FROM {earlier} ANTI JOIN touched USING (h0, h1) ANTI JOIN asked USING (h0, h1)")
    for table in ("candidates", "standing", "sides"):
        db.execute(f"DROP TABLE {table}")


def _ask(db: duckdb.DuckDBPyConnection, signatures: str) -> None:
    """Make ``asked``, the texts to be decided about anew, and ``standing`` with all that they may be compared with."""
    import numpy as np
    import pyarrow

    moved = "EXISTS (FROM touched t WHERE t.h0 = s.h0 AND t.h1 = s.h1)"
    db.execute(f"CREATE TEMP TABLE sharing AS FROM {signatures} SEMI JOIN touched USING (h0, h1)")
    db.execute(_STANDING.format(signatures=_in_a_bucket(signatures), moved=moved))
    texts = _texts(db)
    numbers = [np.flatnonzero(texts.moved & texts.learnt), *(band.changed() for band in _bands(db, texts))]
    db.register("changed", pyarrow.table({"number": np.unique(np.concatenate(numbers))}))
    db.execute("CREATE TEMP TABLE asked AS SELECT h0, h1 FROM standing SEMI JOIN changed USING (number)")
    db.unregister("changed")
    db.execute("CREATE OR REPLACE TEMP TABLE sharing AS FROM standing SEMI JOIN asked USING (h0, h1)")
    db.execute(_STANDING.format(signatures=_in_a_bucket(signatures), moved="FALSE"))
    db.execute("DROP TABLE sharing")


def _texts(db: duckdb.DuckDBPyConnection) -> Texts:
    import numpy as np

    columns = f"coalesce(side, 0) AS side, test, learnt, moved, {', '.join(SKETCH)}"
    found = db.sql(f"SELECT {columns} FROM standing ORDER BY number").fetchnumpy()
    sketch = np.stack([found[name] for name in SKETCH], axis=1)
    return Texts(found["side"], found["test"], found["learnt"], found["moved"], sketch)


def _bands(db: duckdb.DuckDBPyConnection, texts: Texts) -> Iterator[Band]:
    for key in KEYS:
        [keys] = db.sql(f"SELECT {key}::UBIGINT << 32 | number::UBIGINT FROM standing").fetchnumpy().values()
        yield Band(texts, keys)


def _in_a_bucket(signatures: str) -> str:
    same = " OR ".join(f"{key} IN (SELECT {key} FROM sharing)" for key in KEYS)
    return f"(FROM {signatures} WHERE {same})"
