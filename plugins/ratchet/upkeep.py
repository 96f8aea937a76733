"""The DAGs that look after all pipelines: one returns to an earlier champion, one looks whether all still agrees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Param

from ratchet.factory import STEP
from ratchet.location import pipelines_of
from ratchet.notify import TellFailure
from ratchet.operators.choose import ChooseOperator
from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.reconcile import ReconcileOperator, TellDifferences
from ratchet.operators.rollback import RollbackOperator
from training.visible import SEEN

ROLLBACK_PAGE = """\
### Return to an earlier champion

Start a run with the pipeline, the version (empty: the champion before this one) and the reason, which the history
keeps.

1. **Choose the version**: it must have been champion, and not serve already.
2. **Put it on the endpoint**: its release is started beside the one that serves, tested, and takes over without a
   failed request. Only where the release is gone is the model packaged anew.
3. **Make it the champion**, once the endpoint answers with it. The version that it replaces is barred: the gate does
   not promote the same weights again, until somebody returns to them here. The next run of the pipeline competes with
   what is live then.

Whichever step fails, the log says what it left as it was; a retry goes on from there.
"""

RECONCILE_PAGE = """\
### Does what is recorded agree with what serves?

Once a day: for each pipeline, the alias `champion` in MLflow, the model that the endpoint itself reports and the
history must name the same version. Where they do not, the task fails and says what differs. A run that is promoting at
that moment is waited for: the task looks three times, five minutes apart. It changes nothing; `ratchet reconcile
PIPELINE --fix` does. It tells whom the spec of a pipeline that differs names (`notify`), as a failure, and of a
champion that is older than `gate.stale_after_days`.
"""


def rollback(stub: str) -> DAG:
    """
    :param stub: path of the file that Airflow reads; the specs beside it are the pipelines that the form proposes.
    :return: the DAG ``ratchet_rollback``.
    """
    folder = Path(stub).parent
    with DAG(
        dag_id="ratchet_rollback",
        description="Return a pipeline's endpoint and champion to an earlier version",
        doc_md=ROLLBACK_PAGE,
        schedule=None,
        max_active_runs=1,  # two that were asked for at once must not go back twice
        params={
            "pipeline": Param(
                type="string",
                minLength=1,
                title="Pipeline",
                examples=pipelines_of(folder),
            ),
            "version": Param(
                None,
                type=["null", "string"],
                pattern=r"^[0-9]+$",
                title="Version",
                description="One that was champion once. Empty: the champion before this one.",
            ),
            "reason": Param(
                type="string",
                pattern=SEEN,
                maxLength=500,
                title="Reason",
                description="Kept in the history, with your name.",
            ),
        },
        default_args={**STEP, "on_failure_callback": TellFailure(None, str(folder))},
        tags=["ratchet"],
    ) as dag:
        chosen = ChooseOperator(
            task_id="choose",
            task_display_name="Choose the version",
            pipeline=dag.param("pipeline"),
            version=dag.param("version"),
            reason=dag.param("reason"),
        )
        deployed = LocalDeployOperator(
            task_id="deploy",
            task_display_name="Put it on the endpoint",
            model=chosen.output["model"],
            endpoint=chosen.output["endpoint"],
            release=chosen.output["release"],
            verdict=chosen.output["decision"],
        )
        RollbackOperator(
            task_id="rollback",
            task_display_name="Make it the champion",
            candidate=chosen.output["model"],
            verdict=chosen.output["decision"],
            deployment=deployed.output,
            notify=str(folder),
            pipeline=dag.param("pipeline"),
        )
    return dag


def reconcile(stub: str) -> DAG:
    """
    :param stub: path of the file that Airflow reads; the specs beside it say who is told of an old champion.
    :return: the DAG ``ratchet_reconcile``.
    """
    with DAG(
        dag_id="ratchet_reconcile",
        description="Look whether champions, endpoints and the history agree",
        doc_md=RECONCILE_PAGE,
        schedule="@daily",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),  # any past date: there is no catch-up
        catchup=False,
        is_paused_upon_creation=False,  # it only looks
        max_active_runs=1,
        default_args={
            "owner": "ratchet",
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
            "on_failure_callback": TellDifferences(str(Path(stub).parent)),
        },
        tags=["ratchet"],
    ) as dag:
        ReconcileOperator(
            task_id="reconcile", task_display_name="Look whether they agree", specs=str(Path(stub).parent)
        )
    return dag
