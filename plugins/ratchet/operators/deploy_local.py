"""Put a model on an endpoint of the local endpoint host."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.hooks.endpoint_host import DeploymentFailed, EndpointHostHook
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.links import EndpointLink
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import PackageRequest

if TYPE_CHECKING:
    from airflow.sdk import Context


class LocalDeployOperator(StageOperator):
    """
    Package a model as a release and switch an endpoint to it without losing a request.

    The old release serves until the new one has answered its smoke test; killing this task never stops it. Safe to
    retry: a release that is live, or on its way, is not deployed again.

    :param model: ``models:/NAME/VERSION``, or the URI, path or Hub id of a saved transformers model (templated).
    :param endpoint: name of the endpoint, created if need be (templated).
    :param verdict: what the gate returned; anything but ``promote`` for this very model is refused (templated).
    :param ungated: deploy without a verdict, for models that never passed a gate.
    :param golden: URI of the golden examples for the smoke test; by default a few texts that the model itself scores
        while it is packaged (templated).
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param deploy_timeout: longest wait for the endpoint to serve.
    :param endpoint_conn_id: connection of the endpoint host.
    :param mlflow_conn_id: connection of the MLflow server that ``models:/`` is resolved by.
    :param force: package again (templated).
    :return: ``endpoint``, ``url``, ``digest`` of the release, ``model_digest``, ``hit`` and ``why``.
    :raises AirflowFailException: no verdict, or another one than ``promote``; the endpoint is untouched.
    """

    stage = "package"
    template_fields = ("model", "endpoint", "verdict", "golden", "store", "force")
    operator_extra_links = (EndpointLink(),)
    ui_color = "#e7e3fb"

    def __init__(
        self,
        *,
        model: str,
        endpoint: str,
        verdict: dict[str, Any] | None = None,
        ungated: bool = False,
        golden: str | None = None,
        store: str | None = None,
        deploy_timeout: timedelta = timedelta(minutes=10),
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
        self._check_verdict()
        made = self.run_stage(
            PackageRequest(
                store=self.store or settings.store_uri(),
                model=self.model,
                golden=self.golden,
                force=as_bool(self.force),
            ),
            env=self.registry.environment if self.model.startswith("models:/") else None,
        )
        self._check_judged(made["model_digest"])
        before = self.hook.describe(self.endpoint)
        live = before is not None and before.status == "serving" and before.digest == made["digest"]
        try:
            self.hook.deploy(self.endpoint, made["release"], made["digest"])
            state = self.hook.wait_until_serving(
                self.endpoint, made["digest"], self.deploy_timeout, lambda line: self.log.info("%s", line)
            )
        except DeploymentFailed as error:
            raise RuntimeError(f"{error} The champion alias was not moved.") from error
        served = self.hook.served_digest(state.url or "")
        if served != made["digest"]:
            raise RuntimeError(
                f"Endpoint {self.endpoint!r} answers with {served}, not with {made['digest']} that was deployed. "
                "The champion alias was not moved. Look for another process on its port, then retry."
            )
        why = (
            f"hit: {self.endpoint} serves release {made['digest'][:12]} already"
            if live
            else f"miss: {self.endpoint} served {before.digest[:12] if before and before.digest else 'nothing'}"
        )
        self.log.info("deploy: %s", why)
        self.push_links(context, endpoint=f"{(state.url or '').rstrip('/')}/metadata")
        return {
            "endpoint": self.endpoint,
            "url": state.url,
            "digest": made["digest"],
            "model_digest": made["model_digest"],
            "hit": live,
            "why": why,
        }

    def _check_verdict(self) -> None:
        if self.ungated:
            return
        decision = (self.verdict or {}).get("decision")
        if decision != "promote":
            reasons = "; ".join((self.verdict or {}).get("reasons", [])) or "there is no verdict"
            raise AirflowFailException(
                f"Endpoint {self.endpoint!r} left unchanged: the gate said {decision!r} for {self.model} ({reasons})."
            )

    def _check_judged(self, model_digest: str) -> None:
        if self.ungated:
            return
        judged = ((self.verdict or {}).get("candidate") or {}).get("digest")
        if judged != model_digest:
            raise AirflowFailException(
                f"Endpoint {self.endpoint!r} left unchanged: the verdict is about model {judged}, but {self.model} is "
                f"{model_digest}. Evaluate this model and pass it through the gate."
            )
