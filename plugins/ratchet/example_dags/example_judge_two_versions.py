"""Judge any two MLflow versions on any Parquet test set; Ratchet made none of them."""

from __future__ import annotations

import os

from airflow.sdk import DAG, Param

from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator

with DAG(
    dag_id="example_judge_two_versions",
    schedule=None,
    params={
        "candidate": Param("models:/intents/2", type="string"),
        "champion": Param("models:/intents/1", type="string"),
        "test_set": Param(os.environ.get("EXAMPLE_TEST_SET", "/data/intents/test.parquet"), type="string"),
    },
    tags=["ratchet", "example"],
) as dag:
    evaluate = EvaluateOperator(
        task_id="evaluate",
        candidate="{{ params.candidate }}",
        champion="{{ params.champion }}",
        test_set="{{ params.test_set }}",
        text_column="utterance",
        label_column="intent",
    )
    GateOperator(
        task_id="gate",
        report=evaluate.output["report"],
        minimum={"accuracy": 0.5},
        no_worse_by=0.0,
        metric="accuracy",
    )
