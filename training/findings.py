"""What checks found that is not about single rows, and what the spec wants done about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.checks import policy_of
from training.contract import BadInput, Checks
from training.refusal import BatchRefused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """What one check has to say about the new rows, or about the snapshot that they would make."""

    check: str  # a key of ``training.checks.CHECKS``
    count: int  # of what the check counts: rows, texts or labels
    sentence: str  # all that a person needs to know, with names and numbers; for the log, the run's note and the report
    examples: Sequence[Mapping[str, Any]] = ()  # JSON; what is in one, the check's own module says


def enforce(checks: Checks, findings: Sequence[Finding]) -> None:
    """
    Tell all that was found, and do as the spec says.

    :raises BadInput: a check ends the run. :raises BatchRefused: a check sets the new rows aside.
    """
    for one in findings:
        log.warning("%s", one.sentence)
    for one in findings:
        if policy_of(checks, one.check) == "fail":
            raise BadInput(
                f"{one.sentence} checks.{one.check} is fail, so no snapshot was made. Mend the data, or choose another "
                "policy."
            )
    for one in findings:
        if policy_of(checks, one.check) == "quarantine":
            raise BatchRefused(one.sentence, findings)
