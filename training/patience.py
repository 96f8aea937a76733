"""
Speak to an MLflow that may be slow or away for a while.

Its HTTP client must not repeat a request by itself: a POST whose answer was lost has already created something. So
every request is sent once, and what is repeated is a whole action that looks for what it would create.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from training.contract import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

HTTP_TIMEOUT_SECONDS = 15  # assumed: a request answered later than that is repeated by us
OUTAGE_SECONDS = 600.0  # how long the end of a run waits for MLflow

# A server that is down, restarting or overloaded answers with one of these; anything else will not pass by waiting.
PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "ABORTED"}

T = TypeVar("T")


def connect(tracking: Tracking) -> MlflowClient:
    """:return: a client that sends every request once, and not for ever."""
    send_once()
    from mlflow import MlflowClient

    return MlflowClient(tracking.uri, tracking.uri)


def send_once() -> None:
    """Have this process send MLflow every request once, and not for ever: patience is `patiently`'s."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(HTTP_TIMEOUT_SECONDS))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def patiently(action: Callable[[], T], outage_seconds: float = OUTAGE_SECONDS) -> T:
    """Repeat ``action`` while MLflow is away. :raises Exception: it stayed away, or the failure is of another kind."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    deadline, pause = time.monotonic() + outage_seconds, 1.0
    while True:
        try:
            return action()
        except (MlflowException, RequestException, OSError) as error:
            passing = not isinstance(error, MlflowException) or error.error_code in PASSING
            if not passing or time.monotonic() + pause > deadline:
                raise
            log.warning("MLflow does not answer; next attempt in %.0f s: %s", pause, error)
            time.sleep(pause)
            pause = min(2 * pause, 30.0)


def all_pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    """:param ask: for the page of a token; None: the first. :return: what is on all of them."""
    token = None
    while True:
        page = ask(token)
        yield from page
        if not (token := page.token):
            return
