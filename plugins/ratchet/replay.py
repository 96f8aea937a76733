"""Ask what a gate would have said of past versions: MLflow has their reports, the ledger who was champion when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratchet.alias import mark_after
from ratchet.ledger import ALIAS_BY_HAND, ALIAS_DONE, Ledger, Record
from training.contract import ReplayRequest
from training.tags import MODEL_TAG, REPORT_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratchet.hooks.model_registry import ListedVersion


def replay_request(
    versions: Sequence[ListedVersion], ledger: Ledger, rules: dict[str, Any], last: int
) -> ReplayRequest:
    """
    :param versions: of the pipeline's model, newest first.
    :param rules: the fields of ``training.rules.Rules``.
    :param last: how many of the newest versions are judged; what was champion before them is where they begin.
    """
    moves = [record for record in ledger.records() if record["event"] in (ALIAS_DONE, ALIAS_BY_HAND)]
    promoted = {record["to"] for record in moves}
    judged = versions[:last][::-1]
    known = {one.version: _told(one, promoted) for one in versions}
    first = _written(judged[0]) if judged and judged[0].made else ""
    before = [record for record in moves if record["time"] < first]
    raised = mark_after([record for record in ledger.records() if record["time"] < first])
    return ReplayRequest(
        versions=[known[one.version] for one in judged],
        rules=rules,
        champion=_last(before, known),
        best=_last([raised] if raised else [], known),
    )


def _told(version: ListedVersion, promoted: set[str]) -> dict[str, Any]:
    """:return: the fields of ``training.replay.Version``."""
    return {
        "version": version.version,
        "digest": version.tags.get(MODEL_TAG),
        "report": version.tags.get(REPORT_TAG),
        "promoted": version.version in promoted,
    }


def _written(version: ListedVersion) -> str:
    """:return: when it was made, as the ledger writes times."""
    assert version.made is not None
    return version.made.isoformat(timespec="milliseconds")


def _last(moves: list[Record], known: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """:return: the version that the last of these moves made champion; one that MLflow has lost by its number alone."""
    if not moves or moves[-1]["to"] is None:
        return None
    version = moves[-1]["to"]
    return known.get(version) or {"version": version, "digest": moves[-1].get("model_digest")}
