"""Read and move model versions and aliases in MLflow's registry."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from ratchet.hooks.address import base_url
from training.contract import Unreachable
from training.patience import all_pages, send_once

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"  # the champion before this one: what a rollback returns to
CARD = "README.md"
CHECKPOINT = "artifacts/model"  # in a logged model: the transformers checkpoint
AT_ONCE = 1000  # versions or runs in one answer of MLflow


@dataclass(frozen=True)
class ModelVersion:
    """The part of a registered version that the steps need."""

    name: str
    version: str
    run_id: str | None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class ListedVersion(ModelVersion):
    """A version as the list of a model's versions has it."""

    aliases: tuple[str, ...] = ()
    made: datetime | None = None


def registered_name(reference: str) -> str | None:
    """:return: NAME of ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``; None for what is in no registry."""
    match = re.match(r"models:/([^/@]+)[/@]", reference)
    return match[1] if match else None


class ModelRegistryHook(BaseHook):
    """:param mlflow_conn_id: connection whose ``host`` is the tracking URI; ``login`` and ``password`` if it asks."""

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "http"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id

    @cached_property
    def _connection(self) -> Any:
        return self.get_connection(self.mlflow_conn_id)

    @cached_property
    def tracking_uri(self) -> str:
        """The server's address without credentials."""
        return base_url(self._connection)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Variables that let another process speak to the same server; they hold the credentials."""
        connection = self._connection
        found = {"MLFLOW_TRACKING_URI": self.tracking_uri}
        if connection.login:
            found["MLFLOW_TRACKING_USERNAME"] = connection.login
            found["MLFLOW_TRACKING_PASSWORD"] = connection.password or ""
        return found

    @cached_property
    def client(self) -> MlflowClient:
        import os

        os.environ.update(self.environment)  # the client takes credentials from nowhere else
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient  # a second to import: keep it out of parsing

        return MlflowClient(tracking_uri=self.tracking_uri)

    def find_version(self, reference: str) -> ModelVersion | None:
        """
        Resolve ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.

        :return: None if the model, the version or the alias does not exist. Any other answer is an error: a server that
            is away, or that refuses, must never look like a pipeline without a champion.
        :raises ValueError: ``reference`` is neither.
        """
        from mlflow.exceptions import MlflowException

        match = re.fullmatch(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))", reference)
        if match is None:
            raise ValueError(f"{reference!r} is neither models:/NAME/VERSION nor models:/NAME@ALIAS.")
        name, version, alias = match["name"], match["version"], match["alias"]
        try:
            if version:
                found = self.client.get_model_version(name, version)
            else:
                found = self.client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            # what MLflow answers for an alias that was never set; a proxy's error has neither code nor words
            if error.error_code == "INVALID_PARAMETER_VALUE" and f"alias {alias} not found" in error.message:
                return None
            raise
        return ModelVersion(name, str(found.version), found.run_id, dict(found.tags))

    def list_versions(self, name: str) -> list[ListedVersion]:
        """:return: all versions of a registered model, newest first; none if there is no such model."""
        from mlflow.exceptions import MlflowException

        try:
            by_alias = self.client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        aliases: dict[str, list[str]] = {}
        for alias, version in sorted(by_alias.items()):
            aliases.setdefault(str(version), []).append(alias)
        quoted = name.replace("'", "\\'")
        found = all_pages(lambda token: self.client.search_model_versions(f"name = '{quoted}'", AT_ONCE, None, token))
        listed = [
            ListedVersion(
                name,
                str(one.version),
                one.run_id,
                dict(one.tags),
                tuple(aliases.get(str(one.version), ())),
                datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
            )
            for one in found
        ]
        return sorted(listed, key=lambda one: -int(one.version))

    def list_models(self) -> list[str]:
        """:return: names of all registered models."""
        found = all_pages(lambda token: self.client.search_registered_models(None, AT_ONCE, None, token))
        return [one.name for one in found]

    def run_metrics(self, experiment: str) -> dict[str, dict[str, float]]:
        """:return: by run of the experiment its newest metrics; none if there is no such experiment."""
        known = self.client.get_experiment_by_name(experiment)
        if known is None:
            return {}
        runs = all_pages(
            lambda token: self.client.search_runs([known.experiment_id], max_results=AT_ONCE, page_token=token)
        )
        return {run.info.run_id: dict(run.data.metrics) for run in runs}

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        self.client.set_registered_model_alias(version.name, alias, version.version)

    def end_challenge(self, version: ModelVersion) -> None:
        """Take the alias ``challenger`` away from this version; another challenger keeps it."""
        challenger = self.find_version(f"models:/{version.name}@{CHALLENGER}")
        if challenger is not None and challenger.version == version.version:
            self.remove_alias(version.name, CHALLENGER)

    def remove_alias(self, name: str, alias: str) -> None:
        """Safe to repeat."""
        self.client.delete_registered_model_alias(name, alias)

    def tag_version(self, version: ModelVersion, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, version.version, key, value)

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)

    def log_text(self, run_id: str, text: str, file_name: str) -> None:
        self.client.log_text(run_id, text, file_name)

    def keep_card(self, version: ModelVersion, text: str) -> None:
        """Put the card beside the model's files, where whoever takes it looks, in place of one that is there."""
        source = self.client.get_model_version(version.name, version.version).source
        model = re.fullmatch(r"models:/(m-[0-9a-f]+)", source or "")
        if model is None:  # somebody registered files that are no model of MLflow's
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CARD).write_text(text, encoding="utf-8")
            self.client.log_model_artifacts(model[1], folder, CHECKPOINT)

    def keep_files(
        self, experiment: str, name: str, files: Mapping[str, str], tags: Mapping[str, str], found_by: str
    ) -> tuple[str, str]:
        """
        Keep texts with a run of their own. Safe to repeat: a run that was finished is left as it is.

        :param name: of the run.
        :param files: file name to text.
        :param found_by: the one of ``tags`` that the run is found again by: a URI.
        :return: run and experiment id.
        :raises Unreachable: MLflow did not take them; it is asked once and not for long.
        """
        from requests import RequestException

        send_once()
        client = self.client
        from mlflow.exceptions import MlflowException

        try:
            known = client.get_experiment_by_name(experiment)
            experiment_id = known.experiment_id if known else client.create_experiment(experiment)
            found = client.search_runs([experiment_id], f'tags.`{found_by}` = "{tags[found_by]}"', max_results=1)
            run = found[0] if found else client.create_run(experiment_id, tags=dict(tags), run_name=name)
            if run.info.status != "FINISHED":
                for file_name, text in files.items():
                    client.log_text(run.info.run_id, text, file_name)
                client.set_terminated(run.info.run_id, "FINISHED")
        except (MlflowException, RequestException, OSError) as error:
            raise Unreachable(f"MLflow at {self.tracking_uri} did not take it: {error}") from error
        return run.info.run_id, str(experiment_id)

    def experiment_of(self, run_id: str) -> str:
        return str(self.client.get_run(run_id).info.experiment_id)

    def run_url(self, run_id: str, experiment_id: str) -> str:
        return f"{self.tracking_uri}/#/experiments/{experiment_id}/runs/{run_id}"

    def artifact_url(self, run_id: str, experiment_id: str, path: str) -> str:
        return f"{self.run_url(run_id, experiment_id)}/artifacts/{path}"

    def version_url(self, name: str, version: str) -> str:
        return f"{self.tracking_uri}/#/models/{name}/versions/{version}"
