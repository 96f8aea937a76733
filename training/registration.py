"""Keep one logged model and one registered version for each model that is trained: what is there is not made again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from training.tags import KEY_TAG, MODEL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

MODEL_NAME = "model"
PYFUNC_CODE = Path(__file__).with_name("pyfunc_model.py")
MODEL_LIBRARIES = ("mlflow", "pandas", "torch", "transformers", "safetensors")  # what pyfunc_model.py needs
CHATTY = ("mlflow.pyfunc", "mlflow.store.model_registry.abstract_store")  # MLflow sets their levels when imported


def log_model(
    client: MlflowClient, run: Run, checkpoint: Path, tags: Mapping[str, str], scratch: Path, *, upload_again: bool
) -> LoggedModel:
    """
    Make the checkpoint a model of the run, or find that it is one already.

    :param tags: of the model; by its digest among them it is found again.
    :param upload_again: replace the files of a model that is there.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run_id, digest = run.info.run_id, tags[MODEL_TAG]
    client.set_tag(run_id, MODEL_TAG, digest)
    models = client.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'", max_results=100
    )
    model = next((model for model in models if model.tags.get(MODEL_TAG) == digest), None)
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, run_id, dict(tags), model_type="classifier"
        )
    ready = model.status == LoggedModelStatus.READY
    if upload_again or not ready:
        folder = scratch / "mlflow-model"
        save_pyfunc(checkpoint, folder, model, run_id)
        client.log_model_artifacts(model.model_id, str(folder))
    if not ready:
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def register(client: MlflowClient, name: str, run: Run, model: LoggedModel, tags: Mapping[str, str]) -> ModelVersion:
    """
    Make the logged model a version of the registered model ``name``, or find that it is one already.

    :param tags: of the version; by key and digest among them it is found again.
    """
    from mlflow.exceptions import MlflowException

    version = find_version(client, name, tags[KEY_TAG], tags[MODEL_TAG])
    if version is not None:
        return version
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        source=f"models:/{model.model_id}",
        run_id=run.info.run_id,
        tags=dict(tags),
        model_id=model.model_id,
    )
    log.info("Registered models:/%s/%s", version.name, version.version)
    return version


def find_version(client: MlflowClient, name: str, key: str, digest: str) -> ModelVersion | None:
    """:return: the registered version that holds the model ``digest`` made under ``key``."""
    quoted = name.replace("'", "\\'")
    versions = client.search_model_versions(f"name = '{quoted}' AND tags.`{KEY_TAG}` = '{key}'")
    return next((version for version in versions if version.tags.get(MODEL_TAG) == digest), None)


def save_pyfunc(checkpoint: Path, folder: Path, logged: LoggedModel, run_id: str) -> None:
    """Write the model as MLflow keeps it: the checkpoint as it is, and the code that loads it."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    from training.checkpoints import copy_model

    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    shutil.rmtree(folder, ignore_errors=True)
    # the artifact takes the name of its folder: docs/architecture.md promises artifacts/model
    named = copy_model(checkpoint, folder.with_name("checkpoint") / "model")
    mlflow.pyfunc.save_model(
        str(folder),
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=run_id,
            model_id=logged.model_id,
        ),
        python_model=str(PYFUNC_CODE),
        artifacts={"model": str(named)},
        signature=ModelSignature(
            inputs=Schema([ColSpec("string")]),
            outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")]),
            params=ParamSchema([ParamSpec("top_k", "long", 1)]),
        ),
        input_example=["Where is my card?", "Thank you, that worked."],
        pip_requirements=[f"{name}=={metadata.version(name).partition('+')[0]}" for name in MODEL_LIBRARIES],
    )
    shutil.rmtree(named.parent)
