"""Act on the texts that are almost the same: leave them out, or tell of them and show the nearest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.checks import policy_of
from training.contract import Checks
from training.findings import Finding
from training.layout import BATCHES, Batch, quoted
from training.near import NEAR_DUPLICATE, NEAR_TEST, find_near, near_file
from training.reasons import NEARLY_DUPLICATE, NEARLY_IN_TEST
from training.signatures import SIGNATURES, sign
from training.store import MANIFEST, Store
from training.watermark import ObjectRead

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

REASONS = {NEAR_TEST: NEARLY_IN_TEST, NEAR_DUPLICATE: NEARLY_DUPLICATE}  # a text that is both is the first
# More are looked at only when the spec asks for it: all are in memory at once, 600 bytes each (measured).
UNASKED_ROWS = 1_000_000
SHOWN = 20
_ALIKE = {
    NEAR_TEST: "{} training or validation {} nearly a text of the test split",
    NEAR_DUPLICATE: "{} training or validation {} nearly another one of the same label",
}


def dropped_checks(checks: Checks) -> list[str]:
    return [check for check in REASONS if policy_of(checks, check) == "drop"]


def look_for_near(
    db: duckdb.DuckDBPyConnection,
    checks: Checks,
    store: Store,
    batches: Sequence[Batch],
    places: Mapping[str, Path],
    scratch: Path,
    earlier: str | None,
    *,
    force: bool,
) -> str | None:
    """
    Make ``near`` (training.near) known to ``db``, and leave out what the spec wants dropped: add it to ``settled``.

    :param db: knows ``every``, and what training.settle makes.
    :param places: directories of batches that are not in the store yet, by key.
    :param scratch: gets new ``signatures`` and, in ``watermark``, what was found.
    :param earlier: key of the file with what was found before; None: nothing that was found before counts.
    :param force: make the signatures anew that the store has.
    :return: name of the file in ``watermark``; None: the spec ignores both checks, or names none and there are many
        rows, or there is no row.
    """
    if all(policy_of(checks, check) == "ignore" for check in REASONS):
        return None
    [(rows,)] = db.sql("SELECT count(*) FROM every WHERE live").fetchall()
    if rows > UNASKED_ROWS and not REASONS.keys() & checks.policies.keys():
        log.info(
            "not looking for texts that are alike among %s rows: to look all the same, name a policy for near_test or "
            "near_duplicate",
            f"{rows:,}",
        )
        return None
    signatures = sign(db, store, batches, places, scratch / SIGNATURES, force=force)
    if signatures is None:
        return None
    name = near_file()
    same_way = earlier is not None and earlier.rpartition("/")[2] == name
    find_near(db, signatures, f"read_parquet({quoted(store.duckdb_path(earlier))})" if earlier and same_way else None)
    db.sql("FROM near ORDER BY h0, h1").write_parquet(str(scratch / "watermark" / name), compression="zstd")
    for check in dropped_checks(checks):
        db.execute(
            f"INSERT INTO dropped SELECT batch, object, row, h0, h1, {quoted(REASONS[check])} AS reason FROM near "
            f'ANTI JOIN dropped USING (batch, object, row) WHERE "check" = {quoted(check)}'
        )
    return name


def near_findings(
    db: duckdb.DuckDBPyConnection,
    checks: Checks,
    store: Store,
    objects: Sequence[ObjectRead],
    batches: Mapping[int, str],
    new: int | None,
    *,
    told: bool,
) -> list[Finding]:
    """
    Each finding's examples are the nearest texts, nearest first: file, row, text; near_file, near_row, near_text;
    similarity. Texts are whole: who shows them cuts them (training.data_report).

    :param db: knows ``near`` and ``every``.
    :param objects: those that are in force. :param batches: keys by number.
    :param new: number of the new batch.
    :param told: an earlier run looked for texts that are alike, and told of those there were. Then only what new rows
        bring counts, and also where a policy refuses them or ends the run.
    """
    findings = []
    for check, alike in _ALIKE.items():
        policy = policy_of(checks, check)
        if policy == "ignore":
            continue
        chosen = f'near WHERE "check" = {quoted(check)}'
        if told or policy in ("quarantine", "fail"):
            news = f"(SELECT h0, h1 FROM every WHERE batch = {new or 0})"
            chosen += f" AND ((h0, h1) IN {news} OR (near_h0, near_h1) IN {news})"
        [(count,)] = db.sql(f"SELECT count(*) FROM {chosen}").fetchall()
        if count:
            examples = _nearest(db, chosen, _Names(store, objects, batches))
            first = examples[0]
            sentence = (
                f"{alike.format(f'{count:,}', 'texts are' if count > 1 else 'text is')}"
                f"{', and left out' if policy == 'drop' else ''}: {first['file']}, row {first['row']}, is like "
                f"{first['near_file']}, row {first['near_row']} (similarity {first['similarity']:.2f})."
            )
            findings.append(Finding(check, count, sentence, examples))
    return findings


class _Names:
    """What objects are called, also those that are gone."""

    def __init__(self, store: Store, objects: Sequence[ObjectRead], batches: Mapping[int, str]) -> None:
        self.store, self.batches = store, batches
        self.names = {(one.batch, one.index): one.name for one in objects}

    def __getitem__(self, place: tuple[int, int]) -> str:
        if place not in self.names:
            manifest = self.store.read_json(f"{BATCHES}/{self.batches[place[0]]}/{MANIFEST}")
            self.names |= {(place[0], index): one["name"] for index, one in enumerate(manifest["objects"])}
        return self.names[place]


def _nearest(db: duckdb.DuckDBPyConnection, chosen: str, names: _Names) -> list[dict[str, Any]]:
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE shown AS FROM {chosen} ORDER BY similarity DESC, h0, h1, batch, object, row "
        f"LIMIT {SHOWN}"
    )
    # one row of each of the others: one that is in force, if there is one
    others = (
        "SELECT h0, h1, batch, object, row, text FROM every e "
        "SEMI JOIN shown s ON e.h0 = s.near_h0 AND e.h1 = s.near_h1 "
        "QUALIFY row_number() OVER (PARTITION BY h0, h1 ORDER BY live DESC, rank, batch, object, row) = 1"
    )
    own = "SELECT batch, object, row, text FROM every SEMI JOIN shown USING (batch, object, row)"
    found = db.sql(
        "SELECT s.batch, s.object, s.row, t.text, o.batch, o.object, o.row, o.text, similarity FROM shown s "
        f"JOIN ({own}) t USING (batch, object, row) JOIN ({others}) o ON s.near_h0 = o.h0 AND s.near_h1 = o.h1 "
        "ORDER BY similarity DESC, s.h0, s.h1"
    ).fetchall()
    return [
        {
            "file": names[batch, item],
            "row": row,
            "text": text,
            "near_file": names[near_batch, near_item],
            "near_row": near_row,
            "near_text": near_text,
            "similarity": round(similarity, 4),
        }
        for batch, item, row, text, near_batch, near_item, near_row, near_text, similarity in found
    ]
