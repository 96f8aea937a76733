"""Put a model on an endpoint of the local endpoint host."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.hooks.endpoint_host import DeploymentFailed, DeploymentRefused, EndpointHostHook
from ratchet.hooks.model_registry import ModelRegistryHook, registered_name
from ratchet.judged import require_champion_unmoved, require_promote, require_same_model
from ratchet.links import EndpointLink, push_links
from ratchet.location import ENDPOINT_NAME, ENDPOINT_NAME_RULE
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import PackageRequest

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.endpoint_host import EndpointState


class LocalDeployOperator(StageOperator):
    """
    Package a model as a release and switch an endpoint to it without losing a request.

    The old release serves until the new one has answered its smoke test; killing this task never stops it. Safe to
    retry: a release that is live, or on its way, is not deployed again. An endpoint belongs to the registered model
    that was put there first.

    :param model: ``models:/NAME/VERSION``, or the URI, path or Hub id of a saved transformers model (templated).
    :param endpoint: name of the endpoint, created if need be: at most 63 lower-case letters, digits and ``-``, no ``-``
        first (templated).
    :param verdict: what the gate returned; anything but ``promote`` for this very model is refused (templated).
    :param ungated: deploy without a verdict, for models that never passed a gate.
    :param release: URI of a release of this model that was made before (templated): it is deployed as it is; only
        where it is gone or damaged is the model packaged.
    :param golden: URI of the golden examples for the smoke test; by default a few texts that the model itself scores
        while it is packaged (templated).
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param deploy_timeout: longest wait for the endpoint to serve.
    :param endpoint_conn_id: connection of the endpoint host.
    :param mlflow_conn_id: connection of the MLflow server that ``models:/`` is resolved by.
    :param force: package again (templated).
    :return: ``endpoint``, ``url``, ``digest`` of the release, ``model_digest``, ``hit`` and ``why``.
    :raises AirflowFailException: no endpoint may have this name, or there is no verdict, or another one than
        ``promote``, or the champion has changed since, or the endpoint belongs to another registered model; the
        endpoint is untouched.
    """

    stage = "package"
    template_fields = ("model", "endpoint", "verdict", "release", "golden", "store", "force")
    operator_extra_links = (EndpointLink(),)
    ui_color = "#e7e3fb"

    def __init__(
        self,
        *,
        model: str,
        endpoint: str,
        verdict: dict[str, Any] | None = None,
        ungated: bool = False,
        release: str | None = None,
        golden: str | None = None,
        store: str | None = None,
        deploy_timeout: timedelta = timedelta(minutes=15),
        endpoint_conn_id: str = EndpointHostHook.default_conn_name,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.endpoint = endpoint
        self.verdict = verdict
        self.ungated = ungated
        self.release = release
        self.golden = golden
        self.store = store
        self.deploy_timeout = deploy_timeout
        self.endpoint_conn_id = endpoint_conn_id
        self.mlflow_conn_id = mlflow_conn_id
        self.force = force

    @cached_property
    def hook(self) -> EndpointHostHook:
        return EndpointHostHook(self.endpoint_conn_id)

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        if not re.fullmatch(ENDPOINT_NAME, self.endpoint):
            raise AirflowFailException(
                f"{self.endpoint!r} is no name for an endpoint: expected {ENDPOINT_NAME_RULE}. Nothing was packaged."
            )
        unchanged = f"Endpoint {self.endpoint!r} left unchanged"
        if not self.ungated:
            require_promote(self.verdict, self.model, unchanged)
        made = self._made_before() or self.run_stage(
            PackageRequest(
                pipeline=self.dag_id,
                store=self.store or settings.store_uri(),
                work=str(settings.work_directory()),
                model=self.model,
                golden=self.golden,
                force=as_bool(self.force),
            ),
            env=self.registry.environment if self.model.startswith("models:/") else None,
        )
        if not self.ungated:
            self._check_judged(made["model_digest"], unchanged)
        try:
            before = self.hook.describe(self.endpoint)
            state = self.hook.deploy(
                self.endpoint,
                made["release"],
                made["digest"],
                self.deploy_timeout,
                lambda line: self.log.info("%s", line),
                owner=registered_name(self.model),
            )
        except DeploymentRefused as error:
            raise AirflowFailException(f"{unchanged}: {error} The champion alias was not moved.") from error
        except DeploymentFailed as error:
            raise RuntimeError(f"{error} The champion alias was not moved.") from error
        self._check_served(state, made["digest"])
        live = before is not None and before.status == "serving" and before.digest == made["digest"]
        was = before.digest[:12] if before and before.digest else "nothing"
        why = (
            f"hit: {self.endpoint} serves release {made['digest'][:12]} already"
            if live
            else f"miss: {self.endpoint} served {was}"
        )
        self.log.info("deploy: %s", why)
        push_links(context, endpoint=f"{state.url}/metadata")
        return {
            "endpoint": self.endpoint,
            "url": state.url,
            "digest": made["digest"],
            "model_digest": made["model_digest"],
            "hit": live,
            "why": why,
        }

    def _made_before(self) -> dict[str, Any] | None:
        """:return: what packaging would, of the release that was named; None: there is none, or it is not whole."""
        from serving.release import MANIFEST
        from training.store import Store

        if self.release is None:
            return None
        store = Store(self.store or settings.store_uri())
        key = store.key(self.release)
        if not store.is_intact(key, MANIFEST):
            self.log.warning("%s is gone or damaged; %s is packaged anew.", self.release, self.model)
            return None
        manifest = store.read_json(f"{key}/{MANIFEST}")
        return {"release": self.release, **{name: manifest[name] for name in ("digest", "model_digest")}}

    def _check_judged(self, model_digest: str, unchanged: str) -> None:
        verdict = self.verdict or {}
        require_same_model(verdict, model_digest, self.model, unchanged)
        candidate = self.registry.find_version(self.model) if self.model.startswith("models:/") else None
        if candidate is not None:
            require_champion_unmoved(verdict, candidate, self.registry, unchanged)

    def _check_served(self, state: EndpointState, digest: str) -> None:
        served = self.hook.served_digest(state.url or "")
        if served != digest:
            raise RuntimeError(
                f"Endpoint {self.endpoint!r} answers with {served}, not with {digest} that was deployed. "
                "The champion alias was not moved. Look for another process on its port, then retry."
            )
