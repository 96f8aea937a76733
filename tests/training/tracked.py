"""What the tests ask a real MLflow for."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient

from training.contract import Tracking
from training.tracking import Dataset, Facts

FACTS = Facts(
    {"learning_rate": 3e-4},
    {"ratchet.snapshot": "5" * 64, "ratchet.code": "c" * 64},
    [Dataset("train", "file:///s/train.parquet", "5" * 64, 48), Dataset("validation", "file:///s/v", "5" * 64, 20)],
)


def target(server: str, name: str) -> Tracking:
    return Tracking(uri=server, experiment=f"ratchet/{name}", model_name=name, tags={"airflow.run": "manual"})


def runs_of(client: MlflowClient, name: str) -> Any:
    experiment = client.get_experiment_by_name(f"ratchet/{name}")
    return client.search_runs([experiment.experiment_id])


def models_of(client: MlflowClient, name: str) -> Any:
    return client.search_logged_models([client.get_experiment_by_name(f"ratchet/{name}").experiment_id])
