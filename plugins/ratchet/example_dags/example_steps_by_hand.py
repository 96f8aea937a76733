"""The whole way without a spec: every operator, wired by hand."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.promote import PromoteOperator
from ratchet.operators.train import TrainOperator

with DAG(dag_id="example_steps_by_hand", schedule=None, tags=["ratchet", "example"]) as dag:
    ingest = IngestOperator(
        task_id="ingest",
        source=os.environ.get("EXAMPLE_SOURCE", "/data/intents/*.csv"),
        text_column="utterance",
        label_column="intent",
    )
    train = TrainOperator(
        task_id="train",
        snapshot=ingest.output["snapshot"],
        base_model=os.environ.get("EXAMPLE_BASE_MODEL", "google-bert/bert-base-uncased"),
        arguments={"num_train_epochs": 2},
    )
    evaluate = EvaluateOperator(
        task_id="evaluate",
        candidate=train.output["candidate"],
        champion="models:/example_steps_by_hand@champion",
        test_set=ingest.output["snapshot"],
    )
    gate = GateOperator(task_id="gate", report=evaluate.output["report"], minimum={"accuracy": 0.1}, no_worse_by=0.02)
    deploy = LocalDeployOperator(
        task_id="deploy",
        model=train.output["candidate"],
        endpoint="example-by-hand",
        verdict=gate.output,
        golden=evaluate.output["golden"],
    )
    PromoteOperator(
        task_id="promote",
        candidate=train.output["candidate"],
        verdict=gate.output,
        deployment=deploy.output,
    )
