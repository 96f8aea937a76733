"""Write the outcome onto the DAG run, where people look first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk.exceptions import AirflowNotFoundException

from ratchet.hooks.airflow_api import AirflowApiHook

if TYPE_CHECKING:
    from airflow.sdk import Context


def write_note(context: Context, outcome: str, log: Any) -> None:
    """
    Set the run's note to the outcome, after the note that its author gave it.

    A note is a courtesy: without the connection, or with the API down, the log says so and the run goes on.
    """
    run = context["dag_run"]
    given = (context.get("params") or {}).get("note")
    note = f"{outcome} (note: {given})" if given else outcome
    try:
        AirflowApiHook().set_run_note(run.dag_id, run.run_id, note)
    except AirflowNotFoundException:
        log.info("No run note: the connection %r does not exist.", AirflowApiHook.default_conn_name)
    except httpx.HTTPError as error:
        log.warning("No run note: Airflow's REST API answered %s.", error)
