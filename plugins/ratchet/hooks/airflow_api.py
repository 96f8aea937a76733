"""Ask Airflow's REST API for what the Task SDK cannot do itself: write a run's note, read an earlier answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
from airflow.sdk import BaseHook

from ratchet.hooks.address import base_url


class AirflowApiHook(BaseHook):
    """:param airflow_conn_id: connection to Airflow's REST API with the login of a user who may edit runs."""

    conn_name_attr = "airflow_conn_id"
    default_conn_name = "ratchet_airflow_api"
    conn_type = "http"
    hook_name = "Airflow REST API"

    def __init__(self, airflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.airflow_conn_id = airflow_conn_id

    def set_run_note(self, dag_id: str, run_id: str, note: str) -> None:
        """Replace the run's note; the API allows 1,000 characters."""
        with self._signed_in() as client:
            client.patch(_run(dag_id, run_id), json={"note": note[:1000]}).raise_for_status()

    def question(
        self, dag_id: str, run_id: str, task_id: str, map_index: int | None, attempt: int | None
    ) -> dict[str, Any] | None:
        """
        :param attempt: None: the one that Airflow has not put down as an earlier one yet.
        :return: what an attempt of a task asked a person, and what was answered; None: it asked nothing.
        """
        task = (
            f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}/{-1 if map_index is None else map_index}"
        )
        with self._signed_in() as client:
            answer = client.get(f"{task}/hitlDetails" + (f"/tries/{attempt}" if attempt else ""))
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            return answer.json()

    @contextmanager
    def _signed_in(self) -> Iterator[httpx.Client]:
        connection = self.get_connection(self.airflow_conn_id)
        with httpx.Client(base_url=base_url(connection), timeout=15, trust_env=False) as client:
            answer = client.post(
                "/auth/token", json={"username": connection.login, "password": connection.password or ""}
            )
            answer.raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield client


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"
