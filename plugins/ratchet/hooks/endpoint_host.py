"""Read and update the endpoints of the local endpoint host."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import httpx
from airflow.sdk import BaseHook


@dataclass(frozen=True)
class EndpointState:
    """The part of the host's answer a deploy needs."""

    name: str
    url: str | None
    status: str  # serving | down; unknown words stay visible
    digest: str | None  # of the release that is live
    model_digest: str | None
    deployment: dict[str, Any]  # digest, status, error of the newest deployment


class DeploymentFailed(Exception):
    """The endpoint host refused or dropped a release; the old one is still live."""


class EndpointHostHook(BaseHook):
    """:param endpoint_conn_id: connection with the host's address; its ``password`` is the control token."""

    conn_name_attr = "endpoint_conn_id"
    default_conn_name = "ratchet_endpoints"
    conn_type = "http"
    hook_name = "Ratchet endpoint host"

    def __init__(self, endpoint_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.endpoint_conn_id = endpoint_conn_id

    @cached_property
    def client(self) -> httpx.Client:
        connection = self.get_connection(self.endpoint_conn_id)
        host = connection.host or "127.0.0.1"
        base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
        if connection.port:
            base = f"{base}:{connection.port}"
        return httpx.Client(
            base_url=base,
            headers={"Authorization": f"Bearer {connection.password or ''}"},
            timeout=30,
            trust_env=False,  # a proxy variable must never see the token
        )

    def describe(self, name: str) -> EndpointState | None:
        """:return: None if there is no such endpoint."""
        response = self.client.get(f"/endpoints/{name}")
        if response.status_code == 404:
            return None
        return _state(_checked(response))

    def deploy(self, name: str, release: str, digest: str) -> None:
        """
        Ask for ``release``. Safe to repeat: a release that is live, or being deployed, is not deployed again.

        :raises DeploymentFailed: the request was refused, or another deployment is under way.
        """
        _checked(self.client.put(f"/endpoints/{name}", json={"release": release, "digest": digest}))

    def wait_until_serving(
        self, name: str, digest: str, timeout: timedelta, log: Callable[[str], None] | None = None
    ) -> EndpointState:
        """
        Wait for the deployment of ``digest``.

        :raises DeploymentFailed: it failed, or did not end within ``timeout``.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        shown = None
        while True:
            state = self.describe(name)
            deployment = state.deployment if state else {}
            status = deployment.get("status")
            if log is not None and status != shown:
                log(f"Endpoint {name}: {status}")
                shown = status
            if state and state.status == "serving" and state.digest == digest and status in ("done", None):
                return state
            if status == "failed" and deployment.get("digest") == digest:
                live = f"{state.digest[:12]} still serves" if state and state.digest else "nothing serves"
                raise DeploymentFailed(
                    f"Endpoint {name!r} did not take {digest[:12]}: {deployment.get('error')}; {live}."
                )
            if time.monotonic() > deadline:
                raise DeploymentFailed(
                    f"Endpoint {name!r} does not serve {digest[:12]} after {timeout} (deployment is {status!r}). "
                    "Read the endpoint host's log (make logs), then retry."
                )
            time.sleep(0.25)

    def served_digest(self, url: str) -> str | None:
        """:return: the digest the endpoint itself reports, which is not necessarily what the host believes."""
        response = self.client.get(f"{url.rstrip('/')}/metadata")
        response.raise_for_status()
        return response.json().get("release")


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 500:
        response.raise_for_status()  # bad luck: worth a retry
    if response.status_code >= 400:
        try:
            reason = response.json().get("error", response.text)
        except ValueError:
            reason = response.text
        raise DeploymentFailed(
            f"The endpoint host answered {response.status_code} to {response.request.url.path}: {reason}"
        )
    return response.json()


def _state(answer: dict[str, Any]) -> EndpointState:
    return EndpointState(
        name=answer["name"],
        url=answer.get("url"),
        status=answer.get("status", "unknown"),
        digest=answer.get("digest"),
        model_digest=answer.get("model_digest"),
        deployment=answer.get("deployment") or {},
    )
