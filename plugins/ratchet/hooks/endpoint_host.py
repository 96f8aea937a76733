"""Read and update the endpoints of the local endpoint host."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseHook

from ratchet.hooks.address import base_url

if TYPE_CHECKING:
    from airflow.sdk import Connection

POLL_SECONDS = 0.25
REQUEST_SECONDS = 30.0
UNDER_WAY = ("starting", "testing", "switching")


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
    """The endpoint host dropped a release; the old one is still live. A retry may mend it."""


class DeploymentRefused(Exception):
    """The endpoint host will not take this request, however often it is sent: a wrong token, name or release."""


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
    def _connection(self) -> Connection:
        return self.get_connection(self.endpoint_conn_id)

    def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """:param url: a path on the host, or the full URL of one of its endpoints."""
        with httpx.Client(
            base_url=base_url(self._connection),
            headers={"Authorization": f"Bearer {self._connection.password or ''}"},
            timeout=REQUEST_SECONDS,
            trust_env=False,  # a proxy variable must never see the token
        ) as client:
            return client.request(method, url, **options)

    def describe(self, name: str) -> EndpointState | None:
        """:return: None if there is no such endpoint."""
        response = self._request("GET", f"/endpoints/{name}")
        if response.status_code == 404:
            return None
        return _state(_checked(response))

    def list_endpoints(self) -> list[dict[str, Any]]:
        """:return: what the host says of each of its endpoints: live release, the one before, newest deployment."""
        response = self._request("GET", "/endpoints")
        response.raise_for_status()
        return response.json()

    def deploy(
        self,
        name: str,
        release: str,
        digest: str,
        timeout: timedelta,
        log: Callable[[str], None],
        *,
        owner: str | None = None,
    ) -> EndpointState:
        """
        Put ``release`` on the endpoint and wait until it serves; another deployment that is under way is waited for.

        Safe to repeat: a release that is live, or being deployed, is not deployed again.

        :param log: told of every step of the deployment.
        :param owner: the registered model that the release is a version of, if it is one's.
        :raises DeploymentRefused: the request is wrong, or the endpoint is another model's.
        :raises DeploymentFailed: the deployment failed, or did not end within ``timeout``.
        """
        deadline = time.monotonic() + timeout.total_seconds()
        while True:
            asked = {"release": release, "digest": digest, "owner": owner}
            response = self._request("PUT", f"/endpoints/{name}", json=asked)
            if response.status_code != httpx.codes.CONFLICT or time.monotonic() > deadline:
                break
            log(f"Endpoint {name}: another deployment is under way")
            time.sleep(10 * POLL_SECONDS)
        _checked(response)
        return self._wait_until_serving(name, digest, deadline, timeout, log)

    def _wait_until_serving(
        self, name: str, digest: str, deadline: float, timeout: timedelta, log: Callable[[str], None]
    ) -> EndpointState:
        shown = None
        while True:
            state = self.describe(name)
            deployment = state.deployment if state else {}
            status = deployment.get("status")
            if state and state.status == "serving" and state.digest == digest and status not in UNDER_WAY:
                return state  # live, whatever became of later attempts to replace it
            if status != shown:
                log(f"Endpoint {name}: {status}")
                shown = status
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
            time.sleep(POLL_SECONDS)

    def served_digest(self, url: str) -> str | None:
        """:return: the digest the endpoint itself reports, which is not necessarily what the host believes."""
        return self._metadata(url).get("release")

    def served_model(self, url: str) -> str | None:
        """:return: likewise the digest of the model."""
        return self._metadata(url).get("model_digest")

    def _metadata(self, url: str) -> dict[str, Any]:
        response = self._request("GET", f"{url.rstrip('/')}/metadata")
        response.raise_for_status()
        return response.json()


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 500:
        response.raise_for_status()  # bad luck: worth a retry
    if response.status_code >= 400:
        try:
            reason = response.json().get("error", response.text)
        except ValueError:
            reason = response.text
        kind = DeploymentFailed if response.status_code == httpx.codes.CONFLICT else DeploymentRefused
        told = str(reason).rstrip(".")
        raise kind(f"The endpoint host answered {response.status_code} to {response.request.url.path}: {told}.")
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
