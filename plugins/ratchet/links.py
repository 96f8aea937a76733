"""Buttons on a task that open what its step made. Airflow evaluates them when the task has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

LINKS = "links"  # the XCom that the operators push: link name to address


def push_links(context: Context, **links: str) -> None:
    """Keep the addresses that the step's links open, by the links' keys."""
    context["ti"].xcom_push(key=LINKS, value=links)


def run_url(context: Context) -> str | None:
    """:return: the page of the run; None: nobody set ``[api] base_url``."""
    base = conf.get("api", "base_url", fallback=None)
    ti = context["ti"]
    return f"{base.rstrip('/')}/dags/{quote(ti.dag_id)}/runs/{quote(ti.run_id)}" if base else None


def answer_url(context: Context) -> str | None:
    """:return: the page on which this task's question is answered; None as for ``run_url``."""
    run = run_url(context)
    return f"{run}/tasks/{quote(context['ti'].task_id)}/required_actions" if run else None


class StepLink(BaseOperatorLink):
    """The address that the step itself pushed under ``key``; no button when it pushed none."""

    key: str

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        return (XCom.get_value(ti_key=ti_key, key=LINKS) or {}).get(self.key, "")


class RunLink(StepLink):
    name = "MLflow run"
    key = "run"


class VersionLink(StepLink):
    name = "Model version"
    key = "version"


class VerdictLink(StepLink):
    name = "Verdict"
    key = "verdict"


class DataReportLink(StepLink):
    name = "Data report"
    key = "data_report"


class EndpointLink(StepLink):
    name = "Endpoint"
    key = "endpoint"


ALL = (DataReportLink(), RunLink(), VersionLink(), VerdictLink(), EndpointLink())
