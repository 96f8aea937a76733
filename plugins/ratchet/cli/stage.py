"""Run a stage from the command line, with the interpreter and the directories that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from ratchet import settings
from ratchet.hooks import stage as hook
from ratchet.spec import PipelineSpec
from training.contract import Message


def run_stage(
    stage: str,
    request: Message,
    log: Callable[[str], None],
    timeout: timedelta | None = None,
    *,
    reads: PipelineSpec | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    :param reads: the spec whose source the stage reads, through the connection that it names.
    :param env: variables added to the stage's environment, such as MLflow's credentials.
    :return: the stage's result. Raises as :func:`ratchet.hooks.stage.run_stage` does.
    """
    return hook.run_stage(
        stage,
        request,
        python=settings.training_python(),
        path=settings.training_path(),
        work=settings.work_directory(),
        log=log,
        env={**_access_to_source(reads), **(env or {})},
        timeout=timeout,
    )


def _access_to_source(spec: PipelineSpec | None) -> dict[str, str]:
    """:raises BadInput: there is no such connection; outside of Airflow it is looked for in the environment alone."""
    if spec is None or spec.data.connection is None:
        return {}
    from ratchet.hooks.source_connection import access_to_source  # Airflow takes a second to import

    return access_to_source(spec.data.connection, spec.data.reading()).environment
