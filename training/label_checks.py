"""
Hold a snapshot's labels against those of the last one: what is new, what has gone, what is rare, what has moved.

From counts alone: no text is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.checks import policy_of
from training.contract import SPLITS, Checks, Split
from training.findings import Finding
from training.reasons import EXAMPLES_PER_REASON, NEW_LABEL, RARE_LABEL, UNTRAINED_LABEL
from training.shares import moved_shares
from training.snapshot import Cell, Snapshot

NAMED = 5  # labels in a sentence
NAME_CHARACTERS = 60  # of a label in a sentence

Arrived = Mapping[Split, Mapping[str, Cell]]  # what was kept of the new batch, by split and label


@dataclass(frozen=True)
class CheckedLabels:
    left_out: Mapping[str, str]  # label to the reason for which the snapshot has none of its rows
    findings: Sequence[Finding]


def check_labels(checks: Checks, drawn: Snapshot, last: Snapshot | None, arrived: Arrived) -> CheckedLabels:
    """
    Say which labels the snapshot does without, and what there is to tell about the others.

    :param drawn: has every label that there are rows of.
    :param last: None: there is nothing to compare with.
    """
    rows = drawn.label_counts["train"]
    left_out = {label: UNTRAINED_LABEL for split in SPLITS for label in drawn.cells[split] if label not in rows}
    rare = _rare(checks, drawn, last)
    if policy_of(checks, "rare_label") == "drop":
        left_out |= dict.fromkeys(rare, RARE_LABEL)
    known = rows if last is None else {*last.labels, *(checks.labels or ())}
    new = {label for label in rows if label not in known and label not in left_out}
    if policy_of(checks, "new_label") == "drop":
        left_out |= dict.fromkeys(new, NEW_LABEL)
        rare -= new
    out = "Their rows are left out."
    found = [
        _finding(
            "new_label",
            "Labels that are new, with their training rows",
            {label: rows[label] for label in new},
            out if new & left_out.keys() else "The champion does not know them.",
        ),
        _finding(
            "rare_label",
            f"Labels with fewer than {checks.min_rows_per_label:,} training rows",
            {label: rows[label] for label in rare},
            out if rare & left_out.keys() else "A model learns little of them.",
        ),
    ]
    if last is not None:
        gone = {label: n for label, n in last.label_counts["train"].items() if label not in rows or label in left_out}
        what = "Labels that no training row has any more, with those of the last snapshot"
        found.append(_finding("vanished_label", what, gone, "The next model will not know them."))
        found.append(_moved_shares(checks, drawn, last, arrived))
    return CheckedLabels(left_out, [one for one in found if one.count])


def _rare(checks: Checks, drawn: Snapshot, last: Snapshot | None) -> set[str]:
    """:return: labels with too few training rows, though all that there are were taken."""

    def rare_in(snapshot: Snapshot) -> set[str]:
        return {label for label, rows in snapshot.label_counts["train"].items() if rows < checks.min_rows_per_label}

    rare = rare_in(drawn) - {one["label"] for one in drawn.layout.cutoffs if one["split"] == "train"}
    if policy_of(checks, "rare_label") == "quarantine" and last is not None:
        rare -= rare_in(last)  # the new rows are not to blame, and refusing them mends nothing
    return rare


def _finding(check: str, what: str, found: Mapping[str, int], meaning: str) -> Finding:
    """:param found: labels with their rows. :return: of count 0 when there is none; examples have label and rows."""
    ranked = sorted(found, key=lambda label: (-found[label], label))
    named = _listed([f"{_shown(label)} {found[label]:,}" for label in ranked])
    examples = [{"label": label, "rows": found[label]} for label in ranked[:EXAMPLES_PER_REASON]]
    return Finding(check, len(found), f"{what}: {named}. {meaning}", examples)


def _moved_shares(checks: Checks, drawn: Snapshot, last: Snapshot, arrived: Arrived) -> Finding:
    """
    Compare the new rows with the last snapshot, in the splits where both have rows as they come.

    :return: of count 0 when nothing moved; examples have label, its shares before and now, rows (new ones) and p.
    """
    splits = [split for split in SPLITS if _as_they_come(drawn, split) and _as_they_come(last, split)]
    # what is new is told of as such; among these it would only make all others rarer
    before = {label: sum(last.label_counts[split].get(label, 0) for split in splits) for label in last.labels}
    now = {label: sum(arrived[split][label].rows for split in splits if label in arrived[split]) for label in before}
    total, rows = sum(before.values()), sum(now.values())
    moved = moved_shares(before, now, checks.moved_share_percent)
    examples: list[dict[str, Any]] = [
        {
            "label": label,
            "before": round(before[label] / total, 4),
            "now": round(now[label] / rows, 4),
            "rows": now[label],
            "p": float(f"{p:.3g}"),
        }
        for label, p in moved.items()
    ]
    named = _listed([f"{_shown(one['label'])} {one['now']:.1%}, {one['before']:.1%} before" for one in examples])
    sentence = (
        f"Labels whose share among {rows:,} new rows is more than {checks.moved_share_percent:g} percentage points "
        f"from the last snapshot's, beyond chance: {named}. Has the source changed, or the way of labelling?"
    )
    return Finding("moved_share", len(moved), sentence, examples[:EXAMPLES_PER_REASON])


def _as_they_come(snapshot: Snapshot, split: Split) -> bool:
    """:return: whether the split is cut by the hash of the text, and no row is left out for there being many."""
    own = snapshot.settings.get(f"{split}_percent", 0) is None
    return not own and all(one["split"] != split for one in snapshot.layout.cutoffs)


def _listed(named: Sequence[str]) -> str:
    more = f"; and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return "; ".join(named[:NAMED]) + more


def _shown(label: str) -> str:
    return repr(label if len(label) <= NAME_CHARACTERS else f"{label[:NAME_CHARACTERS]}...")
