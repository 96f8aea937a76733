"""
Decide which of the rows that were read a snapshot keeps: one per text, with one label, in one split.

Only texts that a new row has, or that a row that is gone had, are looked at again; for the others what was decided
before still holds. A property test holds this against deciding everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.reasons import CONFLICT, DUPLICATE, IN_TEST, IN_VALIDATION

if TYPE_CHECKING:
    import duckdb

# A text that is in several splits stays in the test split, else in validation, and is gone from the others. A text that
# was ever in a test split is never trained on, wherever it turns up later. Rows that disagree about the label are
# settled by majority; where there is none the text teaches nothing. Of spellings that are equal after normalisation the
# majority's with the smallest digest stays, whatever came first: texts are not looked at.
_DROPPED = f"""
    CREATE TEMP TABLE dropped AS
    WITH
    homes AS (
        SELECT h0, h1, min(rank) FILTER (live) AS home, bool_or(rank = 0) AS examined FROM rivals GROUP BY h0, h1
    ),
    placed AS (SELECT r.*, home, examined FROM rivals r JOIN homes USING (h0, h1) WHERE live),
    votes AS (SELECT h0, h1, label, count(*) AS votes FROM placed WHERE rank = home GROUP BY h0, h1, label),
    tops AS (SELECT h0, h1, max(votes) AS top FROM votes GROUP BY h0, h1),
    settled AS (
        SELECT h0, h1, any_value(label) AS agreed, count(*) AS leaders
        FROM votes JOIN tops USING (h0, h1) WHERE votes = top GROUP BY h0, h1
    ),
    ranked AS (
        SELECT p.*, agreed, leaders, row_number() OVER (
            PARTITION BY h0, h1 ORDER BY rank > home, label <> agreed, digest, batch, object, row
        ) AS place
        FROM placed p JOIN settled USING (h0, h1)
    )
    SELECT batch, object, row, h0, h1, CASE
        WHEN rank > home AND home = 0 OR home > 0 AND examined THEN '{IN_TEST}'
        WHEN rank > home THEN '{IN_VALIDATION}'
        WHEN leaders > 1 OR label <> agreed THEN '{CONFLICT}'
        WHEN place > 1 THEN '{DUPLICATE}'
        END AS reason
    FROM ranked WHERE reason IS NOT NULL
"""


def settle(db: duckdb.DuckDBPyConnection, touched: str | None, earlier: str | None) -> None:
    """
    Make the rows that are left out, and why, known to ``db``: ``settled`` with batch, object, row, h0, h1 and reason.

    :param db: knows ``every`` and ``dead`` (training.layout).
    :param touched: relation with the texts, h0 and h1, that have to be looked at again; None: all of them.
    :param earlier: relation with what was left out before, as ``settled``; None: nothing.
    """
    candidates = "every"
    if touched is not None:
        db.execute(f"CREATE TEMP TABLE touched AS SELECT DISTINCT h0, h1 FROM {touched}")
        candidates = "(SELECT e.h0, e.h1 FROM every e SEMI JOIN touched USING (h0, h1))"
    db.execute(f"CREATE TEMP TABLE contested AS SELECT h0, h1 FROM {candidates} GROUP BY h0, h1 HAVING count(*) > 1")
    columns = "batch, object, row, h0, h1, label, digest, rank, live"
    db.execute(f"CREATE TEMP TABLE rivals AS SELECT {columns} FROM every SEMI JOIN contested USING (h0, h1)")
    db.execute(_DROPPED)
    db.execute("DROP TABLE rivals")
    still = ""
    if touched is not None and earlier is not None:
        still = f"UNION ALL FROM {earlier} ANTI JOIN touched USING (h0, h1) ANTI JOIN dead USING (batch, object)"
    db.execute(f"CREATE TEMP VIEW settled AS FROM dropped {still}")
