"""Write the outcome onto the DAG run, where people look first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk.exceptions import AirflowNotFoundException

from ratchet.hooks.airflow_api import AirflowApiHook
from training.markdown import sentence

if TYPE_CHECKING:
    from airflow.sdk import Context

LONGEST = 1000  # characters, as the API has it


def write_note(context: Context, outcome: str, log: Any, *, address: str | None = None) -> None:
    """
    Set the run's note to the outcome, after the note that its author gave it.

    Airflow shows a note as Markdown, and reasons hold what data and people say: none of it is markup. A note is a
    courtesy: without the connection, or with the API down, the log says so and the run goes on.

    :param address: of ours, to follow.
    """
    run = context["dag_run"]
    given = (context.get("params") or {}).get("note")
    end = f": {address}" if address else ""
    note = _shown(f"{outcome} (note: {given})" if given else outcome, LONGEST - len(end)) + end
    try:
        AirflowApiHook().set_run_note(run.dag_id, run.run_id, note)
    except AirflowNotFoundException:
        log.info("No run note: the connection %r does not exist.", AirflowApiHook.default_conn_name)
    except httpx.HTTPError as error:
        log.warning("No run note: Airflow's REST API answered %s.", error)


def _shown(text: str, longest: int) -> str:
    """:return: the text as it reads; cut before it is marked up, since half a mark-up is none."""
    while (excess := len(shown := sentence(text)) - longest) > 0:
        text = text[:-excess]
    return shown
