"""Turn a pipeline's spec into its DAG: the wiring of the operators and nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, AssetWatcher, CronTriggerTimetable, Param
from airflow.sdk.definitions.timetables.simple import OnceTimetable

from ratchet.hooks.model_registry import CHAMPION
from ratchet.location import MODEL_PATTERN, SOURCE_PATTERN, asset_uri
from ratchet.notify import TellFailure
from ratchet.operators.approve import ApproveOperator
from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.promote import PromoteOperator
from ratchet.operators.train import TrainOperator
from ratchet.spec import load_spec
from ratchet.triggers.new_data import NewDataTrigger
from training.markdown import code
from training.visible import SEEN

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

STEP = {  # what holds for every step of every DAG
    "owner": "ratchet",
    "retries": RETRIES,
    "retry_delay": RETRY_DELAY,
    "retry_exponential_backoff": 2,
    "max_retry_delay": LONGEST_RETRY_DELAY,
    "execution_timeout": STEP_TIMEOUT,
}

PARAMS = {
    "force": Param(False, type="boolean", title="Recompute", description="Do every step again, finished or not."),
    # null as well as text: the form would not start a run with an empty text
    "note": Param(
        None, type=["null", "string"], title="Note", maxLength=500, description="Why this run; shown on the run."
    ),
    "override": Param(
        None,
        type=["null", "string"],
        title="Override",
        pattern=SEEN,
        maxLength=500,
        description="Promote the candidate whatever the gate says; no approver is asked. The reason is kept for ever, "
        "with your name.",
    ),
    "source": Param(
        None,
        type=["null", "string"],
        title="Other data",
        pattern=SOURCE_PATTERN,  # refused here, a password is in no run's configuration
        description="Read this instead of the spec's data.source, in this run only: a full path, s3:// or hf://.",
    ),
    "date": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Past date",
        description="Take no snapshot; use the newest one from this day (UTC) or before.",
    ),
    "model": Param(
        None,
        type=["null", "string"],
        title="A model that is there",
        pattern=MODEL_PATTERN,
        description="Train none; take this one as the candidate: a Hub id, id@revision, models:/NAME/VERSION or a "
        "full path.",
    ),
    "model_labels": Param(
        None,
        type=["null", "object"],
        title="Its labels",
        additionalProperties={"type": "string"},
        description='What that model calls a label, and what the data calls it: {"LABEL_0": "negative"}.',
    ),
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
        doc_md=_documentation(spec),
        schedule=_schedule(spec),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),  # any past date: there is no catch-up
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


def _when(spec: PipelineSpec) -> str:
    """:return: what starts a run, for the DAG's page."""
    trigger, starts = spec.trigger, []
    if trigger.schedule:
        starts.append(f"on the schedule {code(trigger.schedule)} ({trigger.timezone})")
    if trigger.new_data:
        rows = "new rows" if trigger.new_data.min_rows == 1 else f"{trigger.new_data.min_rows:,} new rows"
        starts.append(f"on {rows} that have been left unchanged for {trigger.new_data.quiet_minutes:g} minutes")
    started = " and ".join(starts) or "when somebody starts it"
    cooldown = spec.trigger.cooldown
    return started + (f"; {cooldown.total_seconds() / 3600:g} hours between two at least" if cooldown else "")


def _source(spec: PipelineSpec) -> str:
    """:return: the source, for the DAG's page, where a long query is cut."""
    if spec.data.query is None:
        return code(spec.data.source or "")
    return f"connection `{spec.data.connection}`, {code(shorten(spec.data.query, 200))}"


ASKED = {  # for the DAG's page
    "never": "",
    "undecided": "; a person decides what the test rows do not",
    "always": "; a person approves each promotion",
}


def _documentation(spec: PipelineSpec) -> str:
    """The DAG's page in Markdown, so that the UI says what the spec says."""
    minimum = ", ".join(f"{name} at least {value:g}" for name, value in spec.gate.minimum.items()) or "no minimum"
    gate = f"{minimum}; `{spec.gate.metric}` no worse than the champion's by more than {spec.gate.no_worse_by:g}"
    asked = ASKED[spec.gate.approval]
    arguments = ", ".join(code(f"{name}: {value}") for name, value in spec.train.arguments.items())
    return f"""\
### {spec.name}

| | |
|---|---|
| **Data** | {_source(spec)}: text {code(spec.data.text)}, label {code(spec.data.label)} |
| **Base model** | {code(spec.train.base_model)}, {arguments or "Ratchet's defaults"} |
| **Gate** | {gate}{asked} |
| **Endpoint** | `{spec.deploy.endpoint}` ({spec.deploy.target}) |
| **Runs** | {_when(spec)} |

{_steps(spec)}

From `{spec.path.name}`; change it there.
"""


def _steps(spec: PipelineSpec) -> str:
    asked = (
        "**Ask a person**, where the gate does not decide alone. The run waits; a rejected one succeeds, and the steps "
        "after it are skipped."
    )
    steps = [
        "**Take a snapshot of the data**: an immutable copy with a train, validation and test split, named by its "
        "content.",
        "**Train a candidate** and register it in MLflow. What was trained before from the same inputs is not trained "
        "again.",
        "**Compare it with the champion** on the same test rows.",
        "**Decide**: promote, or hold with reasons. A held run succeeds; the steps after it are skipped and nothing "
        "changes.",
        *([] if spec.gate.approval == "never" else [asked]),
        "**Put it on the endpoint**: start it beside the old release, test it, switch.",
        "**Make it the champion**, once the endpoint answers with it.",
    ]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
