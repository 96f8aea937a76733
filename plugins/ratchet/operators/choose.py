"""Choose the version that a rollback returns to."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import ChampionAlias, last_move, who_started
from ratchet.hooks.endpoint_host import EndpointHostHook
from ratchet.hooks.model_registry import PREVIOUS, ModelRegistryHook
from ratchet.ledger import ALIAS_DONE, ROLLBACK_BEGUN, Ledger, require_known
from training.contract import BadInput
from training.tags import MODEL_TAG, RELEASE_TAG
from training.visible import SEEN

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelVersion
    from ratchet.ledger import Record
    from training.store import Store

UNCHANGED = "Nothing was changed"


class ChooseOperator(BaseOperator):
    """
    Find the version that a rollback returns to, or say why there is none; endpoint and alias stay as they are.

    Safe to retry: a run that has rolled back already chooses the same version again.

    :param pipeline: name of the pipeline (templated).
    :param reason: why; the history keeps it (templated).
    :param version: a version that was champion before (templated); without it the alias ``previous``.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param endpoint_conn_id: connection of the endpoint host.
    :return: ``model`` (``models:/NAME/VERSION``), ``endpoint``, ``release`` (URI), and ``decision``, which deploy and
        rollback take as they take a verdict.
    :raises AirflowFailException: there is no reason, no such pipeline or version, or the version was never champion or
        serves already; nothing was changed.
    """

    template_fields = ("pipeline", "reason", "version", "store")
    ui_color = "#fbe3cf"

    def __init__(
        self,
        *,
        pipeline: str,
        reason: str,
        version: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        endpoint_conn_id: str = EndpointHostHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.pipeline = pipeline
        self.reason = reason
        self.version = version
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.endpoint_conn_id = endpoint_conn_id

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    @cached_property
    def endpoints(self) -> EndpointHostHook:
        return EndpointHostHook(self.endpoint_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        from training.store import Store

        if not re.search(SEEN, self.reason or ""):
            raise AirflowFailException(f"{UNCHANGED}: a rollback needs a reason, which the history keeps.")
        store = Store(self.store or settings.store_uri())
        try:
            require_known(store, self.pipeline)
        except BadInput as error:
            raise AirflowFailException(f"{UNCHANGED}: {error}") from None  # what it says is all there is to say
        ledger = Ledger(store, self.pipeline)
        model = (last_move(ledger) or {}).get("model", self.pipeline)
        alias = ChampionAlias(self.registry, ledger, model, settings.work_directory() / "locks")
        champion = alias.settle(context["run_id"])
        made_by_us = ledger.last(ALIAS_DONE, dag_id=self.dag_id, run_id=context["run_id"], to=champion)
        if made_by_us is not None:
            champion, version = made_by_us["from"], made_by_us["to"]
        else:
            version = self._asked_for() or self._previous(ledger, model, context["dag_run"].run_after)
        chosen, promoted = self._checked(ledger, model, version)
        if champion == version:
            raise AirflowFailException(f"{UNCHANGED}: {self._is_champion(promoted)}")
        digest = promoted.get("model_digest") or chosen.tags.get(MODEL_TAG)
        self._remember(ledger, {"model": model, "from": champion, "to": version}, context)
        self.log.info("%s goes back from version %s to %s", self.pipeline, champion, version)
        return {
            "model": chosen.uri,
            "endpoint": promoted["endpoint"],
            "release": self._release(store, chosen, promoted),
            "decision": {
                "decision": "promote",
                "reasons": [self.reason.strip()],
                "candidate": {"model": chosen.uri, "digest": digest},
                "champion": {"model": f"models:/{model}/{champion}"} if champion else None,
            },
        }

    def _remember(self, ledger: Ledger, choice: Record, context: Context) -> None:
        """Say what is about to happen, so that whoever finds it half done knows what was meant."""
        begun: Record = {**choice, "dag_id": self.dag_id, "run_id": context["run_id"]}
        if ledger.last(ROLLBACK_BEGUN, **begun) is None:
            ledger.append(ROLLBACK_BEGUN, who=who_started(context), why=self.reason.strip(), **begun)

    def _asked_for(self) -> str | None:
        return self.version if self.version and self.version != "None" else None

    def _previous(self, ledger: Ledger, model: str, asked: datetime) -> str:
        """:param asked: when the rollback was; of two that were asked for at once the second must not go back twice."""
        last = last_move(ledger)
        if last is not None and datetime.fromisoformat(last["time"]) > asked:
            raise AirflowFailException(
                f"{UNCHANGED}: since this rollback was asked for, the champion became version {last['to']}. Look at "
                f"it (ratchet history {self.pipeline}) and name the version to return to."
            )
        previous = self.registry.find_version(f"models:/{model}@{PREVIOUS}")
        if previous is None:
            raise AirflowFailException(
                f"{UNCHANGED}: {model} has no champion before the one that serves. Name a version that was champion "
                f"once: {_champions(ledger)}."
            )
        return previous.version

    def _checked(self, ledger: Ledger, model: str, version: str) -> tuple[ModelVersion, Record]:
        """:return: the version, and the record of how it last became champion."""
        found = self.registry.find_version(f"models:/{model}/{version}") if version.isdecimal() else None
        if found is None:
            raise AirflowFailException(
                f"{UNCHANGED}: models:/{model}/{version} does not exist. These versions were champion once: "
                f"{_champions(ledger)}."
            )
        promoted = ledger.last(ALIAS_DONE, to=found.version)
        if promoted is None:
            raise AirflowFailException(
                f"{UNCHANGED}: version {version} was never champion, so that no gate let it through. These were: "
                f"{_champions(ledger)}."
            )
        return found, promoted

    def _is_champion(self, promoted: Record) -> str:
        state = self.endpoints.describe(promoted["endpoint"])
        if state is not None and state.model_digest == promoted.get("model_digest"):
            return f"version {promoted['to']} is champion and serves on {promoted['endpoint']!r} already."
        return (
            f"version {promoted['to']} is champion already, but the endpoint {promoted['endpoint']!r} does not serve "
            f"it. Bring them together: ratchet reconcile {self.pipeline} --fix"
        )

    def _release(self, store: Store, chosen: ModelVersion, promoted: Record) -> str:
        return store.uri(f"releases/{chosen.tags.get(RELEASE_TAG) or promoted['release']}")


def _champions(ledger: Ledger) -> str:
    """:return: the versions that the alias was moved to, for an error."""
    found = dict.fromkeys(record["to"] for record in ledger.records(ALIAS_DONE))
    return ", ".join(found) or "none"
