from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import mlflow_server

if TYPE_CHECKING:
    from tests.training.source import Source
    from training.contract import TrainRequest, TrainResult


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server, one for all tests that register models under names of their own."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A folder with one object, the 300 ``ROWS``, which no pipeline has read yet."""
    from tests.training.source import ROWS, Source

    source = Source(tmp_path)
    source.put("first", ROWS)
    return source


@pytest.fixture
def quick_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow is told at once, and the environment that ``connect`` sets is put back."""
    from training import tracking

    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "SYSTEM_SECONDS", 0.1)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 that the environment names, with the bucket ``acme``."""
    from tests.training.faulty_s3 import serving_bucket

    with serving_bucket(monkeypatch) as client:
        yield client


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to be logged; nobody changes it."""
    from tests.tiny import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("model"), labels=["negative", "positive"])


@pytest.fixture(scope="session")
def champion(tracking_server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainRequest, TrainResult]:
    """A training that MLflow knows; its model is the champion of ``lab``."""
    from mlflow import MlflowClient

    from tests.tiny import tiny_checkpoint
    from tests.training import lab, tracked
    from training.train import train

    directory = tmp_path_factory.mktemp("trained")
    request = lab.request_for(
        directory,
        tiny_checkpoint(directory / "base"),
        arguments={"num_train_epochs": 8},
        tracking=tracked.target(tracking_server, "lab"),
        pipeline="lab",
    )
    result = train(request)
    MlflowClient(tracking_server, tracking_server).set_registered_model_alias("lab", "champion", result.version)
    return request, result
