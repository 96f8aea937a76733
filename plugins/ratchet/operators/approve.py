"""Ask a person about a candidate that the gate leaves to one."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowNotFoundException, TaskAwaitingInput, TaskDeferred
from airflow.sdk.timezone import utcnow

from ratchet import settings
from ratchet.approval import LONGEST_REASON, Answer, answer_of, known_answer, remember, unknown_users
from ratchet.hooks.airflow_api import AirflowApiHook
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.judged import name_of, require_promote
from ratchet.ledger import Ledger
from ratchet.links import VerdictLink, answer_url, push_links
from ratchet.note import write_note
from ratchet.notify import Notifications, tell
from ratchet.question import body, subject
from ratchet.stale import tell_held
from training.tags import IMPORTED_TAG, VERDICT_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelVersion

UNCHANGED = "Endpoint and champion stay as they are"
AWAITS = "awaits"  # the XCom that says who is asked, until when, and where to answer


class ApproveOperator(ApprovalOperator):
    """
    Have a person approve a candidate where the gate asks for one; unless it is approved, skip everything downstream.

    The run waits among Airflow's required actions, without a worker. A verdict ``promote`` passes through at once. An
    answer is in the ledger, and a rejected candidate is barred; a rejected run succeeds: the person decided. Safe to
    retry: an answer is never asked for again, whichever attempt or run of the same verdict it was given to.

    :param verdict: what the gate returned; ``hold``, or none at all, is refused (templated).
    :param metrics: the candidate's scores, which the approver is shown (templated).
    :param champion_metrics: likewise the champion's (templated).
    :param approvers: ids of the users who may answer, as Airflow's auth manager has them; empty: whoever may answer for
        the DAG.
    :param response_timeout: how long there is to answer; then the candidate counts as rejected.
    :param notify: who is told that somebody is asked, or of a rejection, as ``notify`` of a spec has it.
    :param stale_after_holds: from how many candidates in a row that were held or rejected on they are told that the
        pipeline is stale; None: never.
    :param stale_after_days: from what age of the champion on; None: never.
    :param pipeline: whose ledger has the answer (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server that has a registered candidate.
    :param airflow_conn_id: connection to Airflow's REST API, by which a retry finds an answer that was given to an
        attempt that died.
    :return: the verdict: ``promote`` with ``approved`` (``who``, ``when``, ``why``), or ``hold`` with ``rejected``.
    :raises AirflowFailException: there is no verdict, or it is ``hold``; nobody was asked.
    """

    template_fields = ("verdict", "metrics", "champion_metrics", "pipeline", "store")
    operator_extra_links = (VerdictLink(),)
    ui_color = "#fff2b3"

    def __init__(
        self,
        *,
        verdict: dict[str, Any],
        metrics: dict[str, float | None] | None = None,
        champion_metrics: dict[str, float | None] | None = None,
        approvers: Sequence[str] = (),
        response_timeout: timedelta = timedelta(hours=72),
        notify: Notifications = (),
        stale_after_holds: int | None = None,
        stale_after_days: float | None = None,
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        airflow_conn_id: str = AirflowApiHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        reason = Param(
            None,
            type=["null", "string"],
            maxLength=LONGEST_REASON,
            title="Reason",
            description="Kept in the history, with your name.",
            source="task",
        )
        form = {"params": {"reason": reason}}  # and none of the DAG's parameters, which Airflow has put there
        super().__init__(
            subject="",  # both are made of the verdict, once there is one
            body="",
            defaults=self.REJECT,
            assigned_users=[{"id": name, "name": name} for name in approvers],
            response_timeout=response_timeout,
            **{**kwargs, **form},
        )
        self.verdict = verdict
        self.metrics = metrics
        self.champion_metrics = champion_metrics
        self.approvers = approvers
        self.notify = notify
        self.stale_after_holds = stale_after_holds
        self.stale_after_days = stale_after_days
        self.pipeline = pipeline
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.airflow_conn_id = airflow_conn_id

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    @cached_property
    def airflow(self) -> AirflowApiHook:
        return AirflowApiHook(self.airflow_conn_id)

    @cached_property
    def ledger(self) -> Ledger:
        from training.store import Store

        return Ledger(Store(self.store or settings.store_uri()), self.pipeline or self.dag_id)

    def execute(self, context: Context) -> dict[str, Any]:
        verdict = self.verdict or {}
        if verdict.get("decision") != "ask":
            require_promote(verdict, (verdict.get("candidate") or {}).get("model", "the candidate"), UNCHANGED)
            return verdict
        answer = known_answer(self.ledger, verdict) or self._answer_to_an_earlier_attempt(context)
        return self._ask(context) if answer is None else self._conclude(context, answer)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        if "error" in event:
            self.process_trigger_event_error(event)
        return self._conclude(context, self._answer(event))

    def _ask(self, context: Context) -> Any:
        assert self.response_timeout is not None
        deadline = utcnow() + self.response_timeout
        self.subject = subject(self.pipeline or self.dag_id, self.verdict)
        version = self._registered()
        imported = version.tags.get(IMPORTED_TAG) if version else None
        figures = self.metrics or {}, self.champion_metrics or {}
        self.body = body(self.verdict, *figures, deadline, list(self.approvers), imported)
        url = answer_url(context)
        awaits = {"by": list(self.approvers), "until": deadline.isoformat(timespec="seconds"), "url": url}
        context["ti"].xcom_push(key=AWAITS, value=awaits)
        self._link_report(context)
        who = " or ".join(self.approvers) or "somebody"
        asked = f"{who} may approve it until {deadline:%Y-%m-%d %H:%M} UTC"
        if unknown := unknown_users(self.approvers):
            asked += f"; Airflow has no user {' and no user '.join(unknown)}"
            self.log.warning("%s. If nobody can answer: mark the run as failed, correct gate.approvers, run.", asked)
        write_note(context, f"waits: {asked}", self.log, address=url)
        try:
            return super().execute(context)
        except (TaskAwaitingInput, TaskDeferred):  # the question is there; its exception lets the worker go
            self._tell_asked(context, [asked, *self.verdict["reasons"]], url)
            raise

    def _answer(self, request: Mapping[str, Any]) -> Answer:
        assert self.response_timeout is not None
        hours = self.response_timeout.total_seconds() / 3600
        return answer_of(request, self.APPROVE, f"{hours:g} hour{'s' if hours != 1 else ''}")

    def _answer_to_an_earlier_attempt(self, context: Context) -> Answer | None:
        """
        What only Airflow has: a worker that was killed after the answer took it along; and a task that is answered in
        the moment in which its worker leaves is taken by the scheduler for one that was killed, and tried again.
        Asking anew would wipe the answer out.
        """
        ti = context["ti"]
        try:
            for attempt in (None, *range(ti.try_number - 1, 0, -1)) if ti.try_number > 1 else ():
                asked = self.airflow.question(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, attempt)
                if asked and asked["response_received"] and self.verdict["key"] in (asked["body"] or ""):
                    return self._answer(asked)
        except AirflowNotFoundException:
            self.log.info("No connection %r: an answer to an attempt before is not known.", self.airflow_conn_id)
        except httpx.HTTPError as error:
            self.log.warning("Airflow's REST API answered %s; an answer to an attempt before is not known.", error)
        return None

    def _conclude(self, context: Context, answer: Answer) -> dict[str, Any]:
        remember(self.ledger, self.verdict, answer, context["run_id"])
        answer = (
            known_answer(self.ledger, self.verdict) or answer
        )  # the first one counts, in whichever run it was given
        self.log.info("%s", answer.told)
        self._link_report(context)
        version = self._registered()
        if version is not None:
            self.registry.tag_version(version, {VERDICT_TAG: "approved" if answer.approved else "rejected"})
        told = {"who": answer.who, "when": answer.when, "why": answer.why}
        reasons = [answer.told, *self.verdict["reasons"]]
        if answer.approved:
            return {**self.verdict, "decision": "promote", "reasons": reasons, "approved": told}
        if version is not None:
            self.registry.end_challenge(version)
        write_note(context, answer.told, self.log)
        verdict = {**self.verdict, "decision": "hold", "reasons": reasons, "rejected": told}
        ti = context["ti"]
        ti.xcom_push(key="return_value", value=verdict)  # skipping raises, so that nothing can be returned
        holds, days = self.stale_after_holds, self.stale_after_days
        tell_held(self.notify, context, self.ledger, verdict, f"{name_of(verdict)} is rejected", holds, days)
        self.skip(ti, self.get_flat_relatives(upstream=False))
        return verdict

    def _tell_asked(self, context: Context, reasons: list[str], url: str | None) -> None:
        what, report = f"make {name_of(self.verdict)} the champion?", self.verdict.get("report_url")
        pipeline = self.pipeline or self.dag_id
        tell(self.notify, context, "ask", pipeline, what, reasons=reasons, report_url=report, answer_url=url)

    def _registered(self) -> ModelVersion | None:
        model = self.verdict["candidate"]["model"]
        return self.registry.find_version(model) if model.startswith("models:/") else None

    def _link_report(self, context: Context) -> None:
        if self.verdict.get("report_url"):
            push_links(context, verdict=self.verdict["report_url"])
