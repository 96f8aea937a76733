"""Say how much personal data there is in the new rows and in the labels, and never what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from training.batch import listed
from training.checks import policy_of
from training.contract import Checks, Policy
from training.findings import Finding
from training.personal import CHECK
from training.reasons import EXAMPLES_PER_REASON
from training.redact import may_hold, redacted

PERSONAL_LABEL = "personal_label"  # as in training.checks
_BECAME: dict[Policy, str] = {
    "report": " and stay as they are",
    "redact": ", which was taken out of their texts",
    "drop": " and were left out",
}


def find_personal_data(checks: Checks, batch: Mapping[str, Any] | None) -> list[Finding]:
    """
    :param batch: manifest of the new one; None: nothing is new.
    :return: nothing, when none was found or looked for. An example is ``file``, ``row`` and ``kind``.
    """
    if batch is None:
        return []
    kinds: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    for one in batch["objects"]:
        kinds.update(one["personal"]["kinds"])
        for kind, rows in sorted(one["personal"]["examples"].items()):
            room = EXAMPLES_PER_REASON - sum(shown["kind"] == kind for shown in examples)
            examples += [{"file": one["name"], "row": row, "kind": kind} for row in rows[: max(0, room)]]
    if not kinds:
        return []
    held = sum(one["personal"]["rows"] for one in batch["objects"])
    rows = sum(one["rows"] for one in batch["objects"])
    sentence = (
        f"{held:,} of {rows:,} new rows hold personal data ({listed(kinds)}){_BECAME[policy_of(checks, CHECK)]}; "
        f"the first in {examples[0]['file']}, row {examples[0]['row']}."
    )
    return [Finding(CHECK, held, sentence, examples)]


def find_personal_labels(checks: Checks, labels: Iterable[str]) -> list[Finding]:
    """
    :param labels: those of the snapshot that can be trained.
    :return: nothing, when none looks like personal data. An example is ``label``, with placeholders.
    """
    import pyarrow

    if policy_of(checks, PERSONAL_LABEL) == "ignore":
        return []
    column = pyarrow.array(sorted(labels), pyarrow.large_string())
    kinds: Counter[str] = Counter()
    shown = []
    for label in column.filter(may_hold(column, checks.phone_region)).to_pylist():
        clean, found = redacted(label, checks.phone_region)
        kinds.update(found)
        if found:
            shown.append(clean)
    if not shown:
        return []
    sentence = (
        f"{len(shown):,} of {len(column):,} labels look like personal data ({listed(kinds)}) and stay as they are: the "
        "model, the log and all reports have them. If they are, give the rows other labels in the source."
    )
    return [Finding(PERSONAL_LABEL, len(shown), sentence, [{"label": one} for one in shown[:EXAMPLES_PER_REASON]])]
