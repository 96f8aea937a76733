"""Fine-tune a sequence classifier on a snapshot and register it in MLflow as a candidate."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ratchet import settings
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.links import RunLink, VersionLink, push_links
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import Tracking, TrainRequest

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainOperator(StageOperator):
    """
    Turn a snapshot and a base model into a registered model version.

    Safe to retry: a killed training continues from its last checkpoint, and the same snapshot, base model,
    configuration and code give the version that already exists.

    :param snapshot: URI of a snapshot (templated).
    :param base_model: Hub id, ``id@revision`` or local directory of any checkpoint that takes a sequence-classification
        head (templated).
    :param arguments: ``transformers.TrainingArguments`` fields that replace Ratchet's defaults (templated).
    :param class_weights: ``balanced`` weighs the loss by inverse label frequency.
    :param trainer: ``module:Class`` of a Trainer subclass, importable in the training environment.
    :param max_length: longest input in tokens; by default from the training texts.
    :param early_stopping_epochs: epochs without a better validation score before training ends; None never stops early.
    :param model_name: registered model (templated); the DAG's id if not given.
    :param pipeline: name under which the last training is remembered (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param force: train although this was trained before (templated).
    :return: ``candidate`` (``models:/NAME/VERSION``), ``model`` (URI of the checkpoint), ``digest``, ``run_id``,
        ``metrics`` on the validation split, ``hit`` and ``why``.
    :raises AirflowFailException: data or configuration that no retry mends; no version was registered.
    """

    stage = "train"
    template_fields = ("snapshot", "base_model", "arguments", "model_name", "pipeline", "store", "force")
    operator_extra_links = (RunLink(), VersionLink())
    ui_color = "#fdf0d9"

    def __init__(
        self,
        *,
        snapshot: str,
        base_model: str,
        arguments: dict[str, Any] | None = None,
        class_weights: str | None = None,
        trainer: str | None = None,
        max_length: int | None = None,
        early_stopping_epochs: int | None = 2,
        model_name: str | None = None,
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot = snapshot
        self.base_model = base_model
        self.arguments = arguments
        self.class_weights = class_weights
        self.trainer = trainer
        self.max_length = max_length
        self.early_stopping_epochs = early_stopping_epochs
        self.model_name = model_name
        self.pipeline = pipeline
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.force = force

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        pipeline = self.pipeline or self.dag_id
        model_name = self.model_name or self.dag_id
        request = TrainRequest(
            pipeline=pipeline,
            store=self.store or settings.store_uri(),
            work=str(settings.work_directory()),
            snapshot=self.snapshot,
            base_model=self.base_model,
            arguments=self.arguments or {},
            class_weights=self.class_weights,  # type: ignore[arg-type]  # checked by the stage
            trainer=self.trainer,
            max_length=self.max_length,
            early_stopping_epochs=self.early_stopping_epochs,
            tracking=Tracking(
                uri=self.registry.tracking_uri,
                experiment=f"ratchet/{pipeline}",
                model_name=model_name,
                tags={"airflow.dag_id": self.dag_id, "airflow.run_id": context["run_id"]},
            ),
            force=as_bool(self.force),
            run=context["run_id"],
        )
        made = self.run_stage(request, env=self.registry.environment)
        push_links(
            context,
            run=self.registry.run_url(made["run_id"], made["experiment_id"]),
            version=self.registry.version_url(model_name, made["version"]),
        )
        return {**made, "candidate": f"models:/{model_name}/{made['version']}"}
