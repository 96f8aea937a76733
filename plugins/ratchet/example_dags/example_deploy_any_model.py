"""Put any saved transformers classifier on an endpoint; it was neither trained nor judged here."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from ratchet.operators.deploy_local import LocalDeployOperator

with DAG(dag_id="example_deploy_any_model", schedule=None, tags=["ratchet", "example"]) as dag:
    LocalDeployOperator(
        task_id="deploy",
        model=os.environ.get("EXAMPLE_MODEL", "distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
        endpoint="example-any-model",
        ungated=True,
    )
