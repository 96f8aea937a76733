"""Turn a pipeline's spec into its DAG: the wiring of the operators and nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable
from airflow.sdk.definitions.timetables.simple import OnceTimetable

from ratchet.dag_page import dag_page
from ratchet.hooks.model_registry import CHAMPION
from ratchet.location import asset_uri
from ratchet.notify import TellFailure
from ratchet.operators.approve import ApproveOperator
from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.promote import PromoteOperator
from ratchet.operators.train import TrainOperator
from ratchet.run_params import PARAMS
from ratchet.spec import load_spec
from ratchet.triggers.new_data import NewDataTrigger

if TYPE_CHECKING:
    from airflow.sdk.bases.timetable import BaseTimetable

    from ratchet.spec import PipelineSpec
    from ratchet.spec.trigger import NewData

# What is worth a retry is a process that was killed or a server that was away. A server that starts again on a busy
# machine was away for two minutes (measured): these delays add up to almost six.
RETRIES = 5
RETRY_DELAY = timedelta(seconds=15)  # and twice as long each time
LONGEST_RETRY_DELAY = timedelta(minutes=2)
STEP_TIMEOUT = timedelta(hours=2)  # assumed: longest ingest, evaluation or packaging that is still making progress

PAST = datetime(2026, 1, 1, tzinfo=UTC)

STEP = {  # what holds for every step of every DAG
    "owner": "ratchet",
    "retries": RETRIES,
    "retry_delay": RETRY_DELAY,
    "retry_exponential_backoff": 2,
    "max_retry_delay": LONGEST_RETRY_DELAY,
    "execution_timeout": STEP_TIMEOUT,
}


def pipeline(stub: str) -> DAG:
    """
    :param stub: path of ``dags/NAME.py``; the spec is ``NAME.yaml`` beside it.
    :return: the DAG ``NAME``.
    :raises SpecError: the spec is not valid; Airflow shows it as the import error of this one file.
    """
    return build(load_spec(Path(stub).with_suffix(".yaml")))


def build(spec: PipelineSpec) -> DAG:
    with DAG(
        dag_id=spec.name,
        description=f"Retrain {spec.train.base_model}, gate it and deploy it to the endpoint {spec.deploy.endpoint}",
        doc_md=dag_page(spec),
        schedule=_schedule(spec),
        start_date=PAST if spec.trigger.schedule == "@once" else None,  # with a past one the last date would be made up
        catchup=False,
        max_active_runs=1,  # two candidates at once would compare with a champion that is about to change
        params=deepcopy(PARAMS),  # a Param remembers what it was resolved to
        default_args={**STEP, "on_failure_callback": TellFailure(spec.name, spec.notifications())},
        tags=["ratchet"],
    ) as dag:
        force = dag.param("force")
        data, train, gate, deploy = spec.data, spec.train, spec.gate, spec.deploy
        notify = spec.notifications()

        ingested = IngestOperator(
            task_id="ingest",
            task_display_name="Take a snapshot of the data",
            source_override=dag.param("source"),
            date=dag.param("date"),
            force=force,
            cooldown=spec.trigger.cooldown,
            source_conn_id=data.connection,
            text_column=data.text,
            label_column=data.label,
            time_column=data.time,
            keep_columns=list(data.keep),
            policies=dict(data.checks),
            base_model=train.base_model,
            max_length=train.max_length,
            **data.model_dump(exclude={"connection", "text", "label", "time", "keep", "checks", "license"}),
        )
        trained = TrainOperator(
            task_id="train",
            task_display_name="Train a candidate",
            snapshot=ingested.output["snapshot"],
            model=dag.param("model"),
            model_labels=dag.param("model_labels"),
            force=force,
            execution_timeout=timedelta(minutes=train.timeout_minutes),
            **train.model_dump(exclude={"target", "timeout_minutes", "license"}),
        )
        evaluated = EvaluateOperator(
            task_id="evaluate",
            task_display_name="Compare it with the champion",
            candidate=trained.output["candidate"],
            champion=f"models:/{spec.name}@{CHAMPION}",
            best="ledger",
            test_set=ingested.output["snapshot"],
            **spec.evidence(),
            force=force,
        )
        gated = GateOperator(
            task_id="gate",
            task_display_name="Decide",
            report=evaluated.output["report"],
            override=dag.param("override"),
            notify=notify,
            stale_after_holds=gate.stale_after_holds,
            stale_after_days=gate.stale_after_days,
            base_license=train.license,
            data_license=data.license,
            force=force,
            **spec.gate_rules(),
        )
        verdict = gated.output if gate.approval == "never" else _approved(spec, gated, evaluated).output
        deployed = LocalDeployOperator(
            task_id="deploy",
            task_display_name="Put it on the endpoint",
            model=trained.output["candidate"],
            endpoint=deploy.endpoint,
            verdict=verdict,
            golden=evaluated.output["golden"],
            deploy_timeout=timedelta(minutes=deploy.timeout_minutes),
            execution_timeout=STEP_TIMEOUT + timedelta(minutes=deploy.timeout_minutes),
        )  # never forced: the evaluation has just packaged what it judged
        PromoteOperator(
            task_id="promote",
            task_display_name="Make it the champion",
            candidate=trained.output["candidate"],
            verdict=verdict,
            deployment=deployed.output,
            notify=notify,
        )
    return dag


def _approved(spec: PipelineSpec, gated: GateOperator, evaluated: EvaluateOperator) -> ApproveOperator:
    return ApproveOperator(
        task_id="approve",
        task_display_name="Ask a person",
        verdict=gated.output,
        metrics=evaluated.output["metrics"],
        champion_metrics=evaluated.output["champion_metrics"],
        approvers=list(spec.gate.approvers),
        response_timeout=timedelta(hours=spec.gate.approval_hours),
        notify=spec.notifications(),
        stale_after_holds=spec.gate.stale_after_holds,
        stale_after_days=spec.gate.stale_after_days,
    )


def data_asset(spec: PipelineSpec, new_data: NewData) -> Asset:
    """:return: the pipeline's source, watched: its events say how many rows there are to take in."""
    watch = NewDataTrigger(
        pipeline=spec.name,
        reading=asdict(spec.data.reading()),
        removed=spec.data.removed,
        source_conn_id=spec.data.connection,
        **new_data.model_dump(exclude={"cooldown_hours"}),
    )
    return Asset(
        name=f"ratchet/{spec.name}/data",
        uri=asset_uri(spec.data.reading().source, spec.name),
        group="ratchet",
        watchers=[AssetWatcher(name="new-data", trigger=watch)],
    )


def _schedule(spec: PipelineSpec) -> str | BaseTimetable | list[Asset] | None:
    trigger, clock = spec.trigger, _clock(spec)
    if trigger.new_data is None:
        return clock
    asset = data_asset(spec, trigger.new_data)
    return [asset] if clock is None else AssetOrTimeSchedule(timetable=clock, assets=[asset])


def _clock(spec: PipelineSpec) -> BaseTimetable | None:
    schedule = spec.trigger.schedule
    if schedule is None:
        return None
    return OnceTimetable() if schedule == "@once" else CronTriggerTimetable(schedule, timezone=spec.trigger.timezone)
