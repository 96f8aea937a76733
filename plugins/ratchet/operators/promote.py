"""Make a deployed version the champion."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import OVERRIDE, PROMOTION, AliasMoved, ChampionAlias, Move, who_started
from ratchet.hooks.endpoint_host import EndpointHostHook
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.judged import champion_moved, judged_champion, require_promote, require_same_model
from ratchet.ledger import Ledger
from ratchet.links import EndpointLink, VersionLink, push_links
from ratchet.note import write_note
from ratchet.notify import Event, Notifications, tell

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelVersion

CHAMPION_STAYS = "The champion stays"


class PromoteOperator(BaseOperator):
    """
    Move the alias ``champion`` to a version that its endpoint already serves.

    Safe to retry: an alias that is already there is left there. The ledger has the intent before the move and the
    word that it is done after it. The alias ``previous`` goes to the champion before. A refusal is on the run's note:
    the endpoint serves the candidate by then.

    :param candidate: ``models:/NAME/VERSION`` (templated).
    :param verdict: what the gate returned; anything but ``promote`` is refused (templated).
    :param deployment: what the deploy step returned: ``endpoint``, ``url``, ``digest``, ``model_digest`` (templated).
    :param notify: who is told of the new champion, as ``notify`` of a spec has it; or the folder of the pipeline's
        spec, which says so.
    :param pipeline: whose ledger records the move (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param endpoint_conn_id: connection of the endpoint host.
    :return: ``model``, ``version``, ``previous`` version, ``hit`` and ``why``.
    :raises AirflowFailException: no verdict to promote, or the alias was moved by somebody else since the evaluation;
        the alias stays where it is.
    """

    template_fields = ("candidate", "verdict", "deployment", "pipeline", "store")
    operator_extra_links = (VersionLink(), EndpointLink())
    ui_color = "#d9f2e6"
    kind: ClassVar[Literal["promotion", "rollback"]] = PROMOTION
    event: ClassVar[Event] = "promote"

    def __init__(
        self,
        *,
        candidate: str,
        verdict: dict[str, Any],
        deployment: dict[str, Any],
        notify: Notifications = (),
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        endpoint_conn_id: str = EndpointHostHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.verdict = verdict
        self.deployment = deployment
        self.notify = notify
        self.pipeline = pipeline
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
        try:
            return self._promote(context)
        except AirflowFailException as refused:
            write_note(context, f"failed: {refused}", self.log)
            raise

    def _promote(self, context: Context) -> dict[str, Any]:
        from training.store import Store

        candidate = self._checked_candidate()
        ledger = Ledger(Store(self.store or settings.store_uri()), self.pipeline or self.dag_id)
        alias = ChampionAlias(self.registry, ledger, candidate.name, settings.work_directory() / "locks")
        try:
            moved = alias.move(candidate, judged_champion(self.verdict), self._move(context), self._check_endpoint)
        except AliasMoved as error:
            served = f"{CHAMPION_STAYS}, although {self.deployment['endpoint']!r} serves the candidate already"
            raise champion_moved(self.verdict, error.found, served) from error
        if moved.by_this_run:
            after = f"champion after version {moved.previous}" if moved.previous else "the first champion"
            outcome = f"{self._done(candidate.version, after)} and serves at {self.deployment['url']}{self._because()}"
            why = f"miss: champion was version {moved.previous}" if moved.previous else "miss: there was no champion"
        else:
            outcome = (
                f"unchanged: version {candidate.version} is champion already and serves at {self.deployment['url']}"
            )
            why = f"hit: version {candidate.version} is champion already"
        self.log.info("promote: %s", why)
        write_note(context, outcome, self.log)
        if moved.by_this_run:
            self._tell(context, candidate, after)
        push_links(
            context,
            version=self.registry.version_url(candidate.name, candidate.version),
            endpoint=f"{self.deployment['url'].rstrip('/')}/metadata",
        )
        return {
            "model": candidate.name,
            "version": candidate.version,
            "previous": moved.previous,
            "hit": not moved.by_this_run,
            "why": why,
        }

    def _because(self) -> str:
        """:return: the person who decided, if one did."""
        decided = self.verdict.get("approved") or self.verdict.get("overridden")
        return f" ({self.verdict['reasons'][0]})" if decided else ""

    def _tell(self, context: Context, candidate: ModelVersion, after: str) -> None:
        what = f"version {candidate.version} is {after}"
        reasons, report = self.verdict.get("reasons", []), self.verdict.get("report_url")
        pipeline = self.pipeline or self.dag_id
        tell(self.notify, context, self.event, pipeline, what, reasons=reasons, report_url=report)

    def _done(self, version: str, after: str) -> str:
        return f"promoted: version {version} is {after}"

    def _checked_candidate(self) -> ModelVersion:
        require_promote(self.verdict, self.candidate, CHAMPION_STAYS)
        require_same_model(self.verdict, self.deployment.get("model_digest"), "what was deployed", CHAMPION_STAYS)
        candidate = self.registry.find_version(self.candidate)
        if candidate is None:
            raise AirflowFailException(f"{CHAMPION_STAYS}: {self.candidate} does not exist. Train it again.")
        judged = self.verdict["candidate"].get("model")
        if candidate.uri != judged:
            raise AirflowFailException(
                f"{CHAMPION_STAYS}: the verdict is about {judged}, but {self.candidate} is {candidate.uri}. Promote "
                "the version that was judged."
            )
        return candidate

    def _check_endpoint(self) -> None:
        served = self.endpoints.served_digest(self.deployment["url"])
        if served != self.deployment["digest"]:
            raise RuntimeError(
                f"{CHAMPION_STAYS}: endpoint {self.deployment['endpoint']!r} serves {served}, not "
                f"{self.deployment['digest']}. Run the deploy step again."
            )

    def _move(self, context: Context) -> Move:
        verdict = OVERRIDE if self.verdict.get("overridden") else self.verdict["decision"]
        return Move(
            kind=self.kind,
            verdict=verdict if self.kind == PROMOTION else None,
            who=who_started(context),
            why="; ".join(self.verdict.get("reasons", [])),
            dag_id=self.dag_id,
            run_id=context["run_id"],
            endpoint=self.deployment["endpoint"],
            release=self.deployment["digest"],
            model_digest=self.deployment["model_digest"],
            raises_mark=self.verdict.get("raises_mark") is True,
        )
