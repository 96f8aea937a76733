"""What must hold between a verdict and the steps that act on it: deploy and promote refuse together or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ratchet.hooks.model_registry import CHAMPION, registered_name

if TYPE_CHECKING:
    from ratchet.hooks.model_registry import ModelRegistryHook, ModelVersion
    from ratchet.ledger import Record


def candidate_of(verdict: Mapping[str, Any]) -> Record:
    """:return: ``model``, ``version`` and ``model_digest`` as the ledger has them; no version: it is in no registry."""
    model = verdict["candidate"]["model"]
    name = registered_name(model)
    return {
        "model": name or model,
        "version": model.rpartition("/")[2] if name else None,
        "model_digest": verdict["candidate"]["digest"],
    }


def name_of(verdict: Mapping[str, Any]) -> str:
    """:return: what people call the candidate: ``version 4``."""
    version = candidate_of(verdict)["version"] if verdict.get("candidate") else None
    return f"version {version}" if version else "the candidate"


def require_promote(verdict: dict[str, Any] | None, model: str, unchanged: str) -> None:
    """
    :param unchanged: what is left as it is, in the words of the error.
    :raises AirflowFailException: there is no verdict, or it is not ``promote``.
    """
    decision = (verdict or {}).get("decision")
    if decision != "promote":
        reasons = "; ".join((verdict or {}).get("reasons", [])) or "there is no verdict"
        raise AirflowFailException(f"{unchanged}: the gate said {decision!r} for {model} ({reasons}).")


def require_same_model(verdict: dict[str, Any], digest: str | None, model: str, unchanged: str) -> None:
    """:raises AirflowFailException: the verdict is about other weights than these."""
    judged = (verdict.get("candidate") or {}).get("digest")
    if judged is None or judged != digest:
        raise AirflowFailException(
            f"{unchanged}: the verdict is about model {judged}, but {model} is {digest}. Evaluate this model and pass "
            "it through the gate."
        )


def require_champion_unmoved(
    verdict: dict[str, Any], candidate: ModelVersion, registry: ModelRegistryHook, unchanged: str
) -> None:
    """:raises AirflowFailException: the alias names neither the champion of the evaluation nor the candidate."""
    current = registry.find_version(f"models:/{candidate.name}@{CHAMPION}")
    found = current.version if current else None
    if found not in (judged_champion(verdict), candidate.version):
        raise champion_moved(verdict, found, unchanged)


def judged_champion(verdict: dict[str, Any]) -> str | None:
    """:return: the champion when the verdict was given; None: there was none."""
    return ((verdict.get("champion") or {}).get("model") or "").rpartition("/")[2] or None


def champion_moved(verdict: dict[str, Any], found: str | None, unchanged: str) -> AirflowFailException:
    """:param found: the version that the alias names now."""
    return AirflowFailException(
        f"{unchanged}: the champion was version {judged_champion(verdict)} when this was decided, but the alias names "
        f"{found} now. Somebody moved it since. Start a new run: it decides by what is live."
    )
