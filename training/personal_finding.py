"""Say how much personal data there is in the new rows, and never what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from training.batch import listed
from training.contract import Checks, Policy
from training.findings import Finding
from training.personal import CHECK
from training.rows import EXAMPLES_PER_REASON, policy_of

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
