"""Look whether champions, endpoints and the history agree."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from ratchet import settings
from ratchet.alias import who_started
from ratchet.hooks.endpoint_host import EndpointHostHook
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.ledger import Ledger, pipelines
from ratchet.location import pipelines_of
from ratchet.note import write_note
from ratchet.notify import TellFailure, spec_in
from ratchet.reconcile import Reconciler
from ratchet.stale import champion_days, tell_old

if TYPE_CHECKING:
    from airflow.sdk import Context


class PipelinesDiffer(RuntimeError):
    """:param told: what differs, by pipeline."""

    def __init__(self, told: dict[str, str]) -> None:
        self.told = told
        lines = " ".join(f"{pipeline}: {differences}" for pipeline, differences in told.items())
        super().__init__(f"{lines} Nothing was changed. To put it right: ratchet reconcile --fix")


class TellDifferences:
    """
    Airflow calls it when the last look failed: whom a pipeline's spec names is told what differs in that pipeline.

    Where the look itself failed, everybody is told, since nobody knows whether all agrees.

    :param specs: folder of the specs.
    """

    def __init__(self, specs: str) -> None:
        self.specs = specs

    def __call__(self, context: Context) -> None:
        error: Any = context.get("exception")
        looks: dict[str, Any]
        if isinstance(error, PipelinesDiffer):
            looks = {pipeline: PipelinesDiffer({pipeline: told}) for pipeline, told in error.told.items()}
        else:
            looks = dict.fromkeys(pipelines_of(Path(self.specs)), error)
        for pipeline, reason in looks.items():
            TellFailure(pipeline, self.specs)({**context, "exception": reason})


class ReconcileOperator(BaseOperator):
    """
    Fail, and say what differs, where the alias ``champion``, the endpoint's own digest and the ledger do not agree.

    Safe to retry: it changes nothing, and a difference that a run makes while it promotes is gone the next time.

    :param pipelines: which (templated); None: all that the store knows.
    :param specs: folder of the specs, which say who is told of a champion that is older than ``gate.stale_after_days``;
        None: nobody is.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param endpoint_conn_id: connection of the endpoint host.
    :return: ``pipelines`` that agree.
    :raises PipelinesDiffer: something differs; the message says what, and how to put it right.
    """

    template_fields = ("pipelines", "store")
    ui_color = "#eeeeee"

    def __init__(
        self,
        *,
        pipelines: list[str] | None = None,
        specs: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        endpoint_conn_id: str = EndpointHostHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipelines = pipelines
        self.specs = specs
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.endpoint_conn_id = endpoint_conn_id

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    @cached_property
    def endpoints(self) -> EndpointHostHook:
        return EndpointHostHook(self.endpoint_conn_id)

    def execute(self, context: Context) -> dict[str, list[str]]:
        from training.store import Store

        store = Store(self.store or settings.store_uri())
        looked_at = self.pipelines if self.pipelines is not None else pipelines(store)
        told = {}
        for name in looked_at:
            ledger = Ledger(store, name)
            self._tell_if_old(context, name, ledger)
            reconciler = Reconciler(
                self.registry,
                self.endpoints,
                ledger,
                settings.work_directory() / "locks",
                who=who_started(context),
                log=self.log.info,
            )
            found = [difference.told for difference in reconciler.differences()]
            self.log.info("%s: %s", name, " ".join(found) or "alias, endpoint and ledger agree")
            if found:
                told[name] = " ".join(found)
        if not told:
            return {"pipelines": looked_at}
        difference = PipelinesDiffer(told)
        write_note(context, f"differs: {difference}", self.log)
        raise difference

    def _tell_if_old(self, context: Context, pipeline: str, ledger: Ledger) -> None:
        """For pipelines that do not run."""
        spec = spec_in(self.specs, pipeline) if self.specs and champion_days(ledger) else None
        if spec is not None:
            tell_old(spec.notifications(), context, ledger, spec.gate.stale_after_days)
