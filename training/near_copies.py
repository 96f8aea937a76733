"""Find the texts of a store that are nearly one that is to be forgotten, for a person to decide about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.damage import Damage
from training.layout import quoted
from training.near import FIRST, know_similarity
from training.shingles import ALIKE
from training.signatures import KEYS, SIGNATURES, sign, signatures_key
from training.store import Store
from training.traces import BatchRead

if TYPE_CHECKING:
    import duckdb

EXAMPLES = 100  # a person is to look at them
UNASKED_ROWS = 200_000  # signatures of more are made only when asked for: this many take five seconds of a processor
_BUCKETS = f"unnest([{', '.join(f'{key} + {band << 32}::UBIGINT' for band, key in enumerate(KEYS))}]) AS bucket"


@dataclass(frozen=True)
class NearCopies:
    texts: Sequence[str] = ()  # identities
    examples: Sequence[str] = ()  # object and row, of the first rows that have them
    unlooked: int = 0  # rows that were compared with nothing


def find_near_copies(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    batches: Sequence[BatchRead],
    scratch: Path,
    damage: Damage,
    *,
    all_rows: bool,
) -> NearCopies:
    """
    As training.near does it: a text is compared with the first few of those that go, of each bucket it is in.

    :param db: knows ``rows`` and ``going``.
    :param scratch: gets signatures that the store has not.
    :param all_rows: compare them also where that takes minutes.
    """
    counts: dict[int, int] = dict(db.sql("SELECT batch, count(*) FROM rows GROUP BY batch").fetchall())
    [(going,)] = db.sql("SELECT count(*) FROM (FROM rows SEMI JOIN going USING (h0, h1))").fetchall()
    if not going:
        return NearCopies()
    read = [one for one in batches if one.number in counts]  # another may have lost all its rows
    unsigned = [one for one in read if not store.is_complete(f"{SIGNATURES}/{signatures_key(one.key)}")]
    unlooked = sum(counts[one.number] for one in unsigned)
    if all_rows or unlooked <= UNASKED_ROWS:
        unsigned, unlooked = [], 0
    signatures = []
    db.execute(f"CREATE TABLE named (h0 UBIGINT, h1 UBIGINT, {', '.join(f'{key} UINTEGER' for key in KEYS)})")
    for one in read:
        if one in unsigned:
            continue
        signed = {"key": one.key, "files": [file.rpartition("/")[2] for file in one.files], "rows": counts[one.number]}
        with damage.passed_over(store.uri(f"{SIGNATURES}/{signatures_key(one.key)}")):
            relation = sign(db, store, [signed], {}, scratch / SIGNATURES, force=False)
            db.execute(
                f"INSERT INTO named SELECT h0, h1, {', '.join(KEYS)} FROM {relation} SEMI JOIN going USING (h0, h1)"
            )
            signatures.append(relation)
    _compare(db, store, read, signatures)
    texts = [f"{h0:016x}{h1:016x}" for h0, h1 in db.sql("FROM nearly ORDER BY ALL").fetchall()]
    names = {(one.number, index): item["name"] for one in batches for index, item in enumerate(one.objects)}
    places = db.sql("SELECT DISTINCT batch, object, row FROM rows SEMI JOIN nearly USING (h0, h1)").fetchall()
    found = {(names[number, index], row) for number, index, row in places}  # each once, however often it was read
    return NearCopies(texts, [f"{name}, row {row}" for name, row in sorted(found)[:EXAMPLES]], unlooked)


def _compare(
    db: duckdb.DuckDBPyConnection, store: Store, batches: Sequence[BatchRead], signatures: Sequence[str | None]
) -> None:
    """Make ``nearly`` known to ``db``: the texts, h0 and h1."""
    know_similarity(db)
    db.execute(
        f"CREATE TABLE buckets AS SELECT bucket, h0 AS near_h0, h1 AS near_h1 FROM (SELECT DISTINCT h0, h1, {_BUCKETS} "
        f"FROM named) QUALIFY row_number() OVER (PARTITION BY bucket ORDER BY h0, h1) <= {FIRST}"
    )
    db.execute("CREATE TABLE pairs (h0 UBIGINT, h1 UBIGINT, near_h0 UBIGINT, near_h1 UBIGINT)")
    for relation in signatures:
        db.execute(
            f"INSERT INTO pairs SELECT DISTINCT h0, h1, near_h0, near_h1 FROM (SELECT h0, h1, {_BUCKETS} "
            f"FROM {relation} ANTI JOIN going USING (h0, h1)) JOIN buckets USING (bucket)"
        )
    files = ", ".join(quoted(store.duckdb_path(file)) for one in batches for file in one.files)
    db.execute(
        f"""
        CREATE TABLE nearly AS
        WITH
        asked AS (SELECT h0, h1 FROM pairs UNION SELECT near_h0, near_h1 FROM pairs),
        texts AS (
            SELECT h0, h1, any_value(text) AS text FROM read_parquet([{files}]) SEMI JOIN asked USING (h0, h1)
            GROUP BY h0, h1
        )
        SELECT DISTINCT p.h0, p.h1 FROM (SELECT DISTINCT * FROM pairs) p
        JOIN texts t ON p.h0 = t.h0 AND p.h1 = t.h1 JOIN texts n ON p.near_h0 = n.h0 AND p.near_h1 = n.h1
        WHERE similarity(t.text, n.text) >= {ALIKE}
        """
    )
