"""Fine-tune a sequence classifier on a snapshot, or take a given one, and register it in MLflow as a candidate."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from ratchet import settings
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.links import RunLink, VersionLink, push_links
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import ImportRequest, Tracking, TrainRequest

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
    :param model: take this model as the candidate and train none: ``models:/NAME/VERSION``, or the URI, path or Hub id
        of a saved transformers model (templated).
    :param model_labels: what ``model`` calls a label to what the data calls it (templated).
    :param force: train, or fetch, although this was done before (templated).
    :return: ``candidate`` (``models:/NAME/VERSION``), ``model`` (URI of the checkpoint), ``digest``, ``run_id``,
        ``hit`` and ``why``; of a training ``metrics`` on the validation split, of a model that was taken ``source`` and
        ``license``.
    :raises AirflowFailException: data or configuration that no retry mends, or ``model`` cannot be a candidate; no
        version was registered.
    """

    stage = "train"
    template_fields = (
        "snapshot",
        "base_model",
        "arguments",
        "model_name",
        "pipeline",
        "store",
        "model",
        "model_labels",
        "force",
    )
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
        model: str | None = None,
        model_labels: dict[str, str] | None = None,
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
        self.model = model
        self.model_labels = model_labels
        self.force = force

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        model_name = self.model_name or self.dag_id
        request = self._request(context, model_name)
        stage = "import" if isinstance(request, ImportRequest) else self.stage
        made = self.run_stage(request, stage=stage, env=self.registry.environment)
        push_links(
            context,
            run=self.registry.run_url(made["run_id"], made["experiment_id"]),
            version=self.registry.version_url(model_name, made["version"]),
        )
        return {**made, "candidate": f"models:/{model_name}/{made['version']}"}

    def _request(self, context: Context, model_name: str) -> TrainRequest | ImportRequest:
        pipeline = self.pipeline or self.dag_id
        store, work = self.store or settings.store_uri(), str(settings.work_directory())
        tracking = Tracking(
            uri=self.registry.tracking_uri,
            experiment=f"ratchet/{pipeline}",
            model_name=model_name,
            tags={"airflow.dag_id": self.dag_id, "airflow.run_id": context["run_id"]},
        )
        if self.model:
            return ImportRequest(
                pipeline=pipeline,
                store=store,
                work=work,
                model=self.model,
                snapshot=self.snapshot,
                labels=self.model_labels or {},
                tracking=tracking,
                force=as_bool(self.force),
            )
        return TrainRequest(
            pipeline=pipeline,
            store=store,
            work=work,
            snapshot=self.snapshot,
            base_model=self.base_model,
            arguments=self.arguments or {},
            class_weights=self.class_weights,  # type: ignore[arg-type]  # checked by the stage
            trainer=self.trainer,
            max_length=self.max_length,
            early_stopping_epochs=self.early_stopping_epochs,
            tracking=tracking,
            force=as_bool(self.force),
            run=context["run_id"],
        )
