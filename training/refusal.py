"""Refuse a batch of new rows as a whole when too many of them are bad, or one that must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.batch import listed
from training.checks import policy_of
from training.contract import BadInput, Checks
from training.reasons import ORDINARY, check_of

if TYPE_CHECKING:
    import duckdb

    from training.findings import Finding

A_FEW = 2  # bad rows say nothing about a small batch: half of two rows is one typing error (assumed)


class BatchRefused(Exception):
    """The new rows are refused as a whole; the message says why."""

    def __init__(self, reason: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(reason)
        self.findings = findings


def why_refused(checks: Checks, batch: Mapping[str, Any]) -> str | None:
    """
    :return: why the whole batch is set aside; None: it is not.
    :raises BadInput: a check says that the run fails.
    """
    reasons: Counter[str] = Counter()
    for one in batch["objects"]:
        reasons.update(one["refused"])
    rows = sum(one["rows"] for one in batch["objects"])
    decided = {reason: policy_of(checks, check_of(reason)) for reason, _count in reasons.most_common()}
    if failed := [reason for reason in decided if decided[reason] == "fail"]:
        raise BadInput(
            f"{_first(batch, failed[0])}: {failed[0]} ({reasons[failed[0]]:,} of {rows:,} new rows), and "
            f"checks.{check_of(failed[0])} is fail. No snapshot was made. Mend the data, or choose drop."
        )
    if refused := [reason for reason in decided if decided[reason] == "quarantine"]:
        return f"{reasons[refused[0]]:,} of {rows:,} new rows: {refused[0]}, the first in {_first(batch, refused[0])}"
    malformed = Counter({reason: count for reason, count in reasons.items() if reason not in ORDINARY})
    limit = checks.bad_rows_percent
    few = A_FEW if limit else 0
    if malformed.total() * 100 > rows * limit and malformed.total() > few:
        worst = malformed.most_common(1)[0][0]
        return (
            f"{malformed.total():,} of {rows:,} new rows cannot be used, more than {limit:g} per cent "
            f"({listed(malformed)}; the first in {_first(batch, worst)})"
        )
    if rows == reasons.total():
        what = (
            f" Refused: {listed(reasons)}; the first in {_first(batch, reasons.most_common(1)[0][0])}." if rows else ""
        )
        return f"no usable row among the new ones.{what}"
    return None


def _first(batch: Mapping[str, Any], reason: str) -> str:
    for one in batch["objects"]:
        if rows := one["examples"].get(reason):
            return f"{one['name']}, row {rows[0]}"
    return "an unknown object"


def why_refused_beside_others(
    checks: Checks, db: duckdb.DuckDBPyConnection, batch: Mapping[str, Any] | None
) -> str | None:
    """As ``why_refused``, for what is wrong with a row beside others."""
    reasons = [reason for (reason,) in db.sql("SELECT DISTINCT reason FROM dropped").fetchall()]
    if batch is None or not {policy_of(checks, check_of(reason)) for reason in reasons} & {"fail", "quarantine"}:
        return None
    # whichever row of a text stays: it is wrong because of the new one
    new = (
        "(SELECT h0, h1, min((object, row)) AS place FROM every SEMI JOIN dropped USING (h0, h1) WHERE batch = ? "
        "GROUP BY h0, h1) n"
    )
    found = db.execute(
        f"SELECT reason, count(*), min(place) FROM dropped JOIN {new} USING (h0, h1) GROUP BY reason ORDER BY reason",
        [batch["number"]],
    ).fetchall()
    for wanted in ("fail", "quarantine"):
        for reason, count, (index, row) in found:
            if policy_of(checks, check_of(reason)) != wanted:
                continue
            place = f"{batch['objects'][index]['name']}, row {row}"
            if wanted == "quarantine":
                return f"{count:,} new rows: {reason}, the first in {place}"
            raise BadInput(
                f"{place}: {reason} ({count:,} new rows), and checks.{check_of(reason)} is fail. No snapshot was made. "
                "Mend the data, or choose drop."
            )
    return None
