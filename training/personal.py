"""
Look for personal data in the rows that are read, and do with them as the spec says, before anything is made of them.

Few texts can hold any. Arrow says of whole columns which; those alone are looked at one by one (training.redact).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from training.checks import policy_of
from training.contract import BadInput, Checks, Policy
from training.reasons import EXAMPLES_PER_REASON
from training.redact import FORMAT, LIBRARIES, may_hold, redacted
from training.sources.part import BadRow, Batch, Row

if TYPE_CHECKING:
    import pyarrow

CHECK = "personal_data"


class Found(NamedTuple):
    """A row that holds personal data."""

    row: int
    kinds: tuple[str, ...]  # keys of training.redact.PLACEHOLDERS
    text: str  # with placeholders
    label: str | None


@dataclass
class Tally:
    """How much was found in one object. JSON in a batch's manifest; nothing of it is personal."""

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # rows by kind
    examples: dict[str, list[int]] = field(default_factory=dict)  # kind to row numbers

    def count(self, found: Iterable[Found]) -> None:
        for one in found:
            self.rows += 1
            for kind in one.kinds:
                self.kinds[kind] += 1
                shown = self.examples.setdefault(kind, [])
                if len(shown) < EXAMPLES_PER_REASON:
                    shown.append(one.row)


@dataclass(frozen=True)
class Scan:
    """
    What to look for and what to do about it; small, and the same in every thread and process.

    :param policy: any but ``ignore``.
    :param region: as ``training.redact.redacted`` has it.
    """

    policy: Policy
    region: str | None

    @property
    def leaves_out(self) -> bool:
        return self.policy in ("drop", "quarantine", "fail")

    @property
    def changes_rows(self) -> bool:
        return self.policy != "report"

    @property
    def identity(self) -> dict[str, Any]:
        """:return: what the outcome depends on beside the rows. Policies that leave rows out do the same with them."""
        from importlib.metadata import version

        return {
            "policy": "leave out" if self.leaves_out else self.policy,
            "region": self.region,
            "format": FORMAT,
            "libraries": {name: version(name) for name in LIBRARIES},
        }

    def look(self, batch: Batch) -> tuple[Batch, list[Found]]:
        """:return: the rows as the policy leaves them, and those in which personal data was found."""
        rows, found = self._in_rows(batch.rows)
        others: list[Row | BadRow] = []
        for row in batch.others:
            one = self._in_row(row)
            if one is not None:
                found.append(one)
            if one is None or not self.changes_rows:
                others.append(row)
            elif isinstance(row, Row) and self.policy == "redact":
                others.append(row._replace(text=one.text))
        return replace(batch, rows=rows, others=others), sorted(found, key=lambda one: one.row)

    def _in_rows(self, rows: pyarrow.Table) -> tuple[pyarrow.Table, list[Found]]:
        import numpy as np
        import pyarrow
        import pyarrow.compute as pc

        texts = rows["text"].combine_chunks()
        holds = np.zeros(len(texts), bool)
        found: list[Found] = []
        for place in np.flatnonzero(may_hold(texts, self.region)):
            text, kinds = redacted(texts[int(place)].as_py(), self.region)
            if kinds:
                holds[place] = True
                row, label = (rows[name][int(place)].as_py() for name in ("row", "label"))
                found.append(Found(row, kinds, text, label))
        if not found or not self.changes_rows:
            return rows, found
        if self.leaves_out:
            return rows.filter(pyarrow.array(~holds)), found
        clean = pyarrow.array([one.text for one in found], texts.type)
        texts = pc.replace_with_mask(texts, pyarrow.array(holds), clean)
        return rows.set_column(rows.schema.get_field_index("text"), "text", texts), found

    def _in_row(self, row: Row | BadRow) -> Found | None:
        text = None if isinstance(row, BadRow) else row.text
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError:
                return None
        if not isinstance(text, str):
            return None  # nothing of it is kept
        text, kinds = redacted(text, self.region)
        return Found(row.number, kinds, text, None) if kinds else None


def scan_of(checks: Checks) -> Scan | None:
    """:return: None: personal data is not looked for."""
    policy = policy_of(checks, CHECK)
    return None if policy == "ignore" else Scan(policy, checks.phone_region)


def check_region(region: str | None) -> None:
    """:raises BadInput: there is no such country."""
    if region is None:
        return
    from phonenumbers import SUPPORTED_REGIONS

    if region not in SUPPORTED_REGIONS:
        raise BadInput(
            f"data.phone_region is {region!r}, a country without phone numbers. Nothing was read. Give the two capital "
            "letters of one (ISO 3166), such as DE, or leave it out."
        )
