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

from typing import TYPE_CHECKING

from training.keys import key_of
from training.shingles import ALIKE, similarities
from training.signatures import KEYS, method

if TYPE_CHECKING:
    import duckdb

FIRST = 4  # of a bucket, those that its other texts are compared with; measured, docs/decisions.md
SPREAD_ROWS = 200_000  # in one query, one for each band of a text; measured: more take memory and save little
NEAR_TEST, NEAR_DUPLICATE = "near_test", "near_duplicate"  # as in training.checks

# One row for each text. Numbers are in the order of identities, so that lower says which of two texts stays.
_STANDING = """
    CREATE OR REPLACE TEMP TABLE standing AS
    WITH placed AS (
        SELECT s.*, hash(e.label, e.rank) AS side, {moved} AS moved, coalesce(e.rank = 0, FALSE) AS test,
            coalesce(e.live AND e.rank > 0 AND d.reason IS NULL, FALSE) AS learnt
        FROM {signatures} s
        LEFT JOIN every e ON s.batch = e.batch AND s.object = e.object AND s.row = e.row
        LEFT JOIN settled d ON s.batch = d.batch AND s.object = d.object AND s.row = d.row
    ),
    texts AS (
        FROM placed WHERE learnt OR test OR moved
        QUALIFY row_number() OVER (PARTITION BY h0, h1 ORDER BY learnt DESC, test DESC, batch, object, row) = 1
    )
    SELECT row_number() OVER (ORDER BY h0, h1) AS number, * FROM texts
"""

_SPREAD = """
    CREATE OR REPLACE TEMP TABLE spread AS
    SELECT number, h0, h1, side, test, learnt, moved, unnest([{buckets}]) AS bucket FROM standing
"""

# What is decided about the others of a bucket changes only where one that moved is among its first, or was.
_ASKED = f"""
    INSERT INTO asked
    WITH
    moved AS (
        SELECT bucket, min(number) AS text, min(number) FILTER (test) AS test FROM spread WHERE moved GROUP BY bucket
    ),
    tests AS (SELECT bucket, min(number, {FIRST})[{FIRST}] AS last FROM spread WHERE test GROUP BY bucket),
    sides AS (
        SELECT bucket, side, min(number, {FIRST})[{FIRST}] AS last FROM spread WHERE learnt GROUP BY bucket, side
    )
    SELECT h0, h1 FROM spread s
    JOIN moved m USING (bucket) LEFT JOIN tests t USING (bucket) JOIN sides l USING (bucket, side)
    WHERE learnt AND (m.test <= coalesce(t.last, m.test) OR m.text <= coalesce(l.last, m.text))
"""

_CANDIDATES = f"""
    INSERT INTO candidates
    WITH
    tests AS (SELECT bucket, min(number, {FIRST}) AS others FROM spread WHERE test GROUP BY bucket),
    sides AS (
        SELECT bucket, side, min(number, {FIRST}) AS others FROM spread WHERE learnt GROUP BY bucket, side
        HAVING count(*) > 1
    ),
    wanted AS (FROM {{wanted}} WHERE learnt),
    found AS (
        SELECT number, unnest(others) AS other FROM wanted JOIN tests USING (bucket)
        UNION ALL
        SELECT * FROM (SELECT number, unnest(others) AS other FROM wanted JOIN sides USING (bucket, side))
        WHERE other < number
    )
    FROM found
"""

_NEAR = f"""
    CREATE TEMP TABLE near AS
    WITH
    pairs AS (SELECT DISTINCT number, other FROM candidates),
    texts AS (
        SELECT number, test, s.h0, s.h1, text FROM standing s JOIN every e USING (batch, object, row)
        SEMI JOIN (SELECT number FROM pairs UNION SELECT other FROM pairs) USING (number)
    ),
    compared AS (
        SELECT p.number, o.test, similarity(t.text, o.text) AS similarity, o.h0 AS near_h0, o.h1 AS near_h1
        FROM pairs p JOIN texts t ON p.number = t.number JOIN texts o ON p.other = o.number
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
    return f"near-{key_of({'signatures': method(), 'alike': ALIKE, 'first': FIRST})[:16]}.parquet"


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
    know_similarity(db)
    wanted = "spread"
    if earlier is None:
        db.execute(_STANDING.format(signatures=signatures, moved="FALSE"))
    else:
        _ask(db, signatures)
        wanted = "(FROM spread SEMI JOIN asked USING (h0, h1))"
    db.execute("CREATE TEMP TABLE candidates (number BIGINT, other BIGINT)")
    _for_all_bands(db, _CANDIDATES.format(wanted=wanted))
    db.execute(_NEAR)
    if earlier is not None:
        db.execute(f"INSERT INTO near FROM {earlier} ANTI JOIN touched USING (h0, h1) ANTI JOIN asked USING (h0, h1)")
    for table in ("candidates", "spread", "standing"):
        db.execute(f"DROP TABLE {table}")


def _ask(db: duckdb.DuckDBPyConnection, signatures: str) -> None:
    """Make ``asked``, the texts to be decided about anew, and ``standing`` with all that they may be compared with."""
    moved = "EXISTS (FROM touched t WHERE t.h0 = s.h0 AND t.h1 = s.h1)"
    db.execute(f"CREATE TEMP TABLE sharing AS FROM {signatures} SEMI JOIN touched USING (h0, h1)")
    db.execute(_STANDING.format(signatures=_in_a_bucket(signatures), moved=moved))
    db.execute("CREATE TEMP TABLE asked AS SELECT h0, h1 FROM standing WHERE moved AND learnt")
    _for_all_bands(db, _ASKED)
    db.execute("CREATE OR REPLACE TEMP TABLE asked AS SELECT DISTINCT h0, h1 FROM asked")
    db.execute("CREATE OR REPLACE TEMP TABLE sharing AS FROM standing SEMI JOIN asked USING (h0, h1)")
    db.execute(_STANDING.format(signatures=_in_a_bucket(signatures), moved="FALSE"))
    db.execute("DROP TABLE sharing")


def _for_all_bands(db: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Carry out the statement on ``spread``: all bands at once, or one after the other when there are many texts."""
    [(texts,)] = db.sql("SELECT count(*) FROM standing").fetchall()
    step = max(1, min(len(KEYS), SPREAD_ROWS // max(1, texts)))
    buckets = [f"{key} + {band << 32}::UBIGINT" for band, key in enumerate(KEYS)]
    for start in range(0, len(KEYS), step):
        db.execute(_SPREAD.format(buckets=", ".join(buckets[start : start + step])))
        db.execute(statement)


def _in_a_bucket(signatures: str) -> str:
    same = " OR ".join(f"{key} IN (SELECT {key} FROM sharing)" for key in KEYS)
    return f"(FROM {signatures} WHERE {same})"
