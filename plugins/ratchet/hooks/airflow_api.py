"""Write the note of a DAG run: the one thing the Task SDK cannot do itself."""

from __future__ import annotations

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
        connection = self.get_connection(self.airflow_conn_id)
        with httpx.Client(base_url=base_url(connection), timeout=15, trust_env=False) as client:
            answer = client.post(
                "/auth/token", json={"username": connection.login, "password": connection.password or ""}
            )
            answer.raise_for_status()
            answer = client.patch(
                f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}",
                json={"note": note[:1000]},
                headers={"Authorization": f"Bearer {answer.json()['access_token']}"},
            )
            answer.raise_for_status()
