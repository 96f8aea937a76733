"""Decide whether a candidate may replace the champion."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.sdk.exceptions import AirflowFailException

from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.links import VerdictLink, push_links
from ratchet.note import write_note
from training.contract import BadInput
from training.gate import Rules, decide
from training.verdict_page import verdict_page

if TYPE_CHECKING:
    from airflow.sdk import Context

    from training.gate import Verdict


class GateOperator(BaseOperator, SkipMixin):
    """
    Turn an evaluation report into a verdict; unless it is ``promote``, skip everything downstream.

    A held run succeeds: the gate did its work. Safe to retry: the same report and rules give the same verdict. The
    verdict of a registered candidate is kept with its MLflow run, as JSON and as a page; a server that is away fails
    the task, which may be retried.

    :param report: URI of the ``report.json`` of an evaluation (templated).
    :param minimum: metric to lowest value that passes: ``accuracy``, ``f1_macro``, ``f1_weighted`` (templated).
    :param no_worse_by: how far below the champion the candidate may be, in units of ``metric``; None: not compared
        (templated).
    :param metric: what candidate and champion are compared by (templated).
    :param mlflow_conn_id: connection of the MLflow server that keeps the verdict with a registered candidate's run.
    :return: ``decision``, ``reasons``, ``rules``, ``candidate``, ``champion``, ``test_set`` and ``notes``.
    :raises AirflowFailException: the rules contradict themselves, or there is no report; nothing is promoted.
    """

    template_fields = ("report", "minimum", "no_worse_by", "metric")
    operator_extra_links = (VerdictLink(),)
    inherits_from_skipmixin = True
    ui_color = "#fde2e2"

    def __init__(
        self,
        *,
        report: str,
        minimum: dict[str, float] | None = None,
        no_worse_by: float | None = 0.01,
        metric: str = "f1_macro",
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report = report
        self.minimum = minimum
        self.no_worse_by = no_worse_by
        self.metric = metric
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        report = self._read_report()
        try:
            verdict = decide(
                report,
                Rules(minimum=self.minimum or {}, no_worse_by=self.no_worse_by, metric=self.metric),
            )
        except BadInput as error:
            raise AirflowFailException(f"{error} The gate did not decide, so nothing is promoted.") from error
        self.log.info("Verdict: %s", verdict.decision)
        for reason in verdict.reasons:
            self.log.info("- %s", reason)
        for note in verdict.notes:
            self.log.info("Note: %s", note)
        self._keep_with_candidate(context, report, verdict)

        answer = json.loads(verdict.to_json())
        if verdict.decision == "promote":
            return answer
        write_note(context, f"held: {'; '.join(verdict.reasons)}", self.log)
        ti = context["ti"]
        ti.xcom_push(key="return_value", value=answer)  # skipping raises, so that nothing can be returned
        self.skip(ti, self.get_flat_relatives(upstream=False))
        return answer

    def _read_report(self) -> dict[str, Any]:
        import fsspec

        from training.store import for_fsspec

        if not self.report:
            raise AirflowFailException(
                "There is no evaluation report, so nothing is promoted. Run the evaluation again."
            )
        try:
            with fsspec.open(for_fsspec(self.report), "rt") as file:
                return json.load(file)
        except (FileNotFoundError, ValueError) as error:
            raise AirflowFailException(
                f"The evaluation report {self.report} cannot be read ({error}), so nothing is promoted. "
                "Run the evaluation again."
            ) from error

    def _keep_with_candidate(self, context: Context, report: dict[str, Any], verdict: Verdict) -> None:
        model = (verdict.candidate or {}).get("model", "")
        version = self.registry.find_version(model) if model.startswith("models:/") else None
        if version is None or version.run_id is None:
            return
        self.registry.log_text(version.run_id, verdict.to_json(), "verdict.json")
        self.registry.log_text(version.run_id, verdict_page(report, verdict), "verdict.html")
        self.registry.tag_version(version, {"ratchet.verdict": verdict.decision})
        if verdict.decision == "hold":
            self.registry.end_challenge(version)
        experiment = self.registry.experiment_of(version.run_id)
        push_links(context, verdict=self.registry.artifact_url(version.run_id, experiment, "verdict.html"))
