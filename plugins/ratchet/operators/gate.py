"""Decide whether a candidate may replace the champion."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import barred, who_started
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.judged import candidate_of, name_of
from ratchet.ledger import ALIAS_DONE, JUDGED, Ledger
from ratchet.links import VerdictLink, push_links
from ratchet.note import write_note
from ratchet.operators.approve import ApproveOperator
from ratchet.operators.stage import StageOperator, as_bool
from ratchet.override import override
from ratchet.stale import tell_held
from training.contract import BadInput, JudgeRequest
from training.rules import Rules
from training.tags import OVERRIDE_TAG, VERDICT_TAG
from training.verdict import DETAILS, PAGE, VERDICT, Verdict
from training.visible import SEEN

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelVersion
    from ratchet.ledger import Record
    from ratchet.notify import Notifications


class GateOperator(StageOperator, SkipMixin):
    """
    Turn an evaluation report into a verdict; unless it is ``promote``, skip everything downstream.

    A held run succeeds: the gate did its work. ``ask`` goes on to an ``ApproveOperator`` behind the gate; without one
    it is held. Safe to retry: the same models, test set and rules give the verdict that was given before. The verdict
    of a registered candidate is kept with its MLflow run, as JSON and as a page, and its model card with the model; a
    server that is away fails the task, which may be retried.

    :param report: URI of the ``report.json`` of an evaluation (templated).
    :param minimum: metric to lowest value that passes: ``accuracy``, ``f1_macro``, ``f1_weighted`` (templated).
    :param maximum: metric, or cost of serving, to highest value that passes: ``log_loss``, ``calibration_error``,
        ``latency_p95_ms``, ``disk_mb``, ``memory_mb`` (templated).
    :param metric: what candidate and champion are compared by (templated).
    :param no_worse_by: how much worse than the champion, and than the best version ever promoted, the candidate may be,
        in units of ``metric``: by the bound of a paired bootstrap; None: not compared (templated).
    :param better: whether the candidate must be shown to be better than the champion (templated).
    :param group_no_worse_by: how much worse it may be in a slice or a label before that alone holds it; None: never
        (templated).
    :param group_rows: slices and labels with fewer test rows decide nothing (templated).
    :param confidence: of each bound (templated).
    :param approval: when a person is asked: ``never``, ``undecided`` or ``always``.
    :param override: a reason to promote the candidate whatever the rules say; the history keeps it for ever, with who
        started the run. None: the rules decide (templated).
    :param notify: who is told of a candidate that is held, as ``notify`` of a spec has it.
    :param stale_after_holds: from how many held candidates in a row on they are told that the pipeline is stale; None:
        never.
    :param stale_after_days: from what age of the champion on; None: never.
    :param base_license: licence of the base model, for the card; None: as the base model's own card states it.
    :param data_license: licence of the data, for the card.
    :param pipeline: name under which the last verdict is remembered (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server that keeps the verdict with a registered candidate's run.
    :param force: judge again what was judged before (templated).
    :return: ``decision``, ``reasons``, ``rules``, ``candidate``, ``champion``, ``best``, ``test_set``, ``raises_mark``,
        ``notes``, the verdict's ``key``, and ``report_url``, where MLflow shows it; after an override ``overridden``.
    :raises AirflowFailException: the rules contradict themselves, there is no report, or one that an override cannot
        mend, since it names no candidate; nothing is promoted.
    """

    stage = "judge"
    template_fields = (
        "report",
        "minimum",
        "maximum",
        "metric",
        "no_worse_by",
        "better",
        "group_no_worse_by",
        "group_rows",
        "confidence",
        "override",
        "pipeline",
        "store",
        "force",
    )
    operator_extra_links = (VerdictLink(),)
    inherits_from_skipmixin = True
    ui_color = "#fde2e2"

    def __init__(
        self,
        *,
        report: str,
        minimum: dict[str, float] | None = None,
        maximum: dict[str, float] | None = None,
        metric: str = Rules.metric,
        no_worse_by: float | None = Rules.no_worse_by,
        better: bool | str = Rules.better,
        group_no_worse_by: float | None = Rules.group_no_worse_by,
        group_rows: int = Rules.group_rows,
        confidence: float = Rules.confidence,
        approval: Literal["never", "undecided", "always"] = Rules.approval,
        override: str | None = None,
        notify: Notifications = (),
        stale_after_holds: int | None = None,
        stale_after_days: float | None = None,
        base_license: str | None = None,
        data_license: str | None = None,
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"multiple_outputs": False, **kwargs})
        self.report = report
        self.minimum = minimum
        self.maximum = maximum
        self.metric = metric
        self.no_worse_by = no_worse_by
        self.better = better
        self.group_no_worse_by = group_no_worse_by
        self.group_rows = group_rows
        self.confidence = confidence
        self.approval = approval
        self.override = override
        self.notify = notify
        self.stale_after_holds = stale_after_holds
        self.stale_after_days = stale_after_days
        self.base_license = base_license
        self.data_license = data_license
        self.pipeline = pipeline
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.force = force

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        if not self.report:
            raise AirflowFailException(
                "There is no evaluation report, so nothing is promoted. Run the evaluation again."
            )
        made = self.run_stage(
            JudgeRequest(
                pipeline=self.pipeline or self.dag_id,
                store=self.store or settings.store_uri(),
                report=self.report,
                rules=self._rules(),
                barred=self._barred(),
                known=self._known(context),
                base_license=self.base_license,
                data_license=self.data_license,
                force=as_bool(self.force),
            )
        )
        verdict = Verdict.from_dict(made["verdict"])
        self.log.info("Verdict: %s", verdict.decision)
        for reason in verdict.reasons:
            self.log.info("- %s", reason)
        for note in verdict.notes:
            self.log.info("Note: %s", note)
        candidate = self._registered(verdict)
        report_url = self._keep_with_candidate(context, candidate, verdict, made["page"])
        if candidate is not None and made["card"]:
            self.registry.keep_card(candidate, _read(made["card"]))
        answer = {**made["verdict"], "key": made["key"], "report_url": report_url}
        self._remember(context, answer)

        if verdict.decision == "promote":
            return answer
        if reason := self._reason_to_override():
            return self._overridden(context, candidate, answer, reason)
        if verdict.decision == "ask" and self._is_asked_next():
            return answer
        if verdict.decision == "hold" and candidate is not None:
            self.registry.end_challenge(candidate)
        write_note(context, f"held: {'; '.join(verdict.reasons)}", self.log)
        ti = context["ti"]
        ti.xcom_push(key="return_value", value=answer)  # skipping raises, so that nothing can be returned
        holds, days = self.stale_after_holds, self.stale_after_days
        tell_held(self.notify, context, self._ledger, answer, f"{name_of(answer)} is held", holds, days)
        self.skip(ti, self.get_flat_relatives(upstream=False))
        return answer

    def _remember(self, context: Context, verdict: dict[str, Any]) -> None:
        """Not of a champion that was judged again: pipelines that have nothing new run every night."""
        candidate, champion = verdict["candidate"], verdict["champion"]
        if candidate and champion and candidate["digest"] == champion["digest"]:
            return
        record: Record = {"decision": verdict["decision"], "dag_id": self.dag_id, "run_id": context["run_id"]}
        if self._ledger.last(JUDGED, **record) is None:
            about = candidate_of(verdict) if candidate else {"version": None, "model_digest": None}
            version, digest = about["version"], about["model_digest"]
            if verdict["decision"] == "hold":
                record["why"] = "; ".join(verdict["reasons"])
            self._ledger.append(JUDGED, version=version, model_digest=digest, **record)

    def _is_asked_next(self) -> bool:
        return any(isinstance(task, ApproveOperator) for task in self.get_direct_relatives(upstream=False))

    def _reason_to_override(self) -> str:
        given = " ".join((self.override or "").split())
        if given == "None":  # a template of a parameter that was not given
            return ""
        return given if re.search(SEEN, given) else ""

    def _overridden(
        self, context: Context, candidate: ModelVersion | None, verdict: dict[str, Any], reason: str
    ) -> dict[str, Any]:
        if verdict["candidate"] is None:
            raise AirflowFailException(
                f"Nothing is promoted, and no override can do it: {'; '.join(verdict['reasons'])} Mend that first."
            )
        who = who_started(context)
        run: Record = {"dag_id": self.dag_id, "run_id": context["run_id"]}
        forced = override(self._ledger, verdict, who, reason, run)
        self.log.warning("%s", forced["reasons"][0])
        if candidate is not None:
            self.registry.tag_version(candidate, {OVERRIDE_TAG: f"{who}: {reason}"})
        write_note(context, forced["reasons"][0], self.log)
        return forced

    @cached_property
    def _ledger(self) -> Ledger:
        from training.store import Store

        return Ledger(Store(self.store or settings.store_uri()), self.pipeline or self.dag_id)

    def _barred(self) -> dict[str, str]:
        return {
            digest: f"these weights, version {bar['version']}, were barred on {bar['time'][:10]} by {bar['who']}: "
            f"{bar['why']}"
            for digest, bar in barred(self._ledger).items()
        }

    def _known(self, context: Context) -> dict[str, str]:
        """:return: what the report of the verdict tells of this run, beside what the store knows."""
        known = {"pipeline": self.pipeline or self.dag_id, "run in Airflow": context["run_id"]}
        if live := self._ledger.last(ALIAS_DONE):
            known["the champion's endpoint"] = live.get("endpoint") or "none"
        return known

    def _rules(self) -> dict[str, Any]:
        rules = {
            "minimum": self.minimum or {},
            "maximum": self.maximum or {},
            "metric": self.metric,
            "no_worse_by": self.no_worse_by,
            "better": as_bool(self.better),
            "group_no_worse_by": self.group_no_worse_by,
            "group_rows": self.group_rows,
            "confidence": self.confidence,
            "approval": self.approval,
        }
        try:
            Rules.from_dict(rules)
        except BadInput as error:
            raise AirflowFailException(f"{error} The gate did not decide, so nothing is promoted.") from error
        return rules

    def _registered(self, verdict: Verdict) -> ModelVersion | None:
        model = (verdict.candidate or {}).get("model", "")
        return self.registry.find_version(model) if model.startswith("models:/") else None

    def _keep_with_candidate(
        self, context: Context, version: ModelVersion | None, verdict: Verdict, page: str
    ) -> str | None:
        """:return: where MLflow shows the page; None: the candidate is not registered."""
        if version is None or version.run_id is None:
            return None
        from training.forgotten import Forgotten

        place, store = page.rpartition("/")[0], self._ledger.store
        with Forgotten.in_force(store).while_writing(store):  # whoever forgets meanwhile finds the run, by its tag
            self.registry.tag_run(version.run_id, {VERDICT_TAG: verdict.decision})
            with suppress(FileNotFoundError):  # a verdict of an earlier version of Ratchet has no details
                self.registry.log_text(version.run_id, _read(f"{place}/{DETAILS}"), DETAILS)
            for name in (VERDICT, PAGE):
                self.registry.log_text(version.run_id, _read(f"{place}/{name}"), name)
        self.registry.tag_version(version, {VERDICT_TAG: verdict.decision})
        experiment = self.registry.experiment_of(version.run_id)
        url = self.registry.artifact_url(version.run_id, experiment, PAGE)
        push_links(context, verdict=url)
        return url


def _read(uri: str) -> str:
    import fsspec

    from training.store import for_fsspec

    with fsspec.open(for_fsspec(uri), "rt", encoding="utf-8") as file:
        return str(file.read())
