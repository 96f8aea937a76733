"""Say which servers the command line asks: those that the environment names, the embedded stack's, or Airflow's."""

from __future__ import annotations

import json
import os

from ratchet.cli.home import has_stack
from training.contract import Tracking

ACCESS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def tracking_of(pipeline: str) -> tuple[Tracking, dict[str, str]]:
    """
    :return: where the pipeline's model is registered, and the variables that open it.
    :raises RunError: the stack was never started.
    """
    uri, access = os.environ.get("MLFLOW_TRACKING_URI"), {}
    if uri:
        access = {name: os.environ[name] for name in ACCESS if name in os.environ}
    elif has_stack():
        uri = _of_stack()
    else:
        from ratchet.hooks.model_registry import ModelRegistryHook  # Airflow takes a second to import

        registry = ModelRegistryHook()
        uri, access = registry.tracking_uri, registry.environment
    return Tracking(uri=uri, experiment=f"ratchet/{pipeline}", model_name=pipeline), access


def _of_stack() -> str:
    from ratchet.cli.retrain import RunError
    from ratchet.cli.stack.settings import Settings, StackError

    try:
        return Settings.from_environment().url("mlflow")
    except StackError as error:
        raise RunError(str(error)) from error


def use_connections() -> None:
    """
    Have the hooks find MLflow and the endpoint host where Airflow's programs do, without an Airflow that runs.

    What the environment says goes first: ``AIRFLOW_CONN_*``, ``MLFLOW_TRACKING_URI``.

    :raises RunError: the stack was never started.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        login, password = (os.environ.get(name) for name in ACCESS[:2])
        connection = {"conn_type": "http", "host": uri, "login": login, "password": password}
        os.environ.setdefault("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    if not has_stack():
        return
    from ratchet.cli.retrain import RunError
    from ratchet.cli.stack.programs import CONNECTIONS
    from ratchet.cli.stack.settings import Settings, StackError

    stack = Settings.from_environment()
    for name in ("MLFLOW_DEFAULT", "RATCHET_ENDPOINTS"):
        if (variable := f"AIRFLOW_CONN_{name}") not in os.environ:
            try:
                os.environ[variable] = json.dumps(CONNECTIONS[name](stack))
            except StackError as error:
                raise RunError(str(error)) from error
