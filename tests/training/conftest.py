from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import mlflow_server


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server, one for all tests that register models under names of their own."""
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri
