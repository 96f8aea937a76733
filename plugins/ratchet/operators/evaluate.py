"""Score a candidate and the champion on the same test set."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import mark
from ratchet.hooks.model_registry import CHALLENGER, ModelRegistryHook
from ratchet.ledger import ALIAS_DONE, Ledger
from ratchet.links import RunLink, push_links
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import EvaluateRequest, Tracking

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ratchet.hooks.model_registry import ModelVersion


class EvaluateOperator(StageOperator):
    """
    Package a model and write an evaluation report of it, alone or beside others on the same rows.

    Safe to retry: the same models on the same test set give the report that already exists. A candidate that is a
    registered version carries the alias ``challenger`` from here to the verdict.

    :param candidate: ``models:/NAME/VERSION``, or the URI, path or Hub id of a saved transformers model (templated).
    :param test_set: URI of a snapshot, or of a Parquet file (templated).
    :param champion: what to compare with, as ``candidate``, or ``models:/NAME@champion`` (templated). An alias that
        nobody has set yet means that there is no champion.
    :param best: the best version that was ever promoted, as ``candidate``, or ``ledger``: the one that the pipeline's
        ledger names (templated). The champion itself is left out.
    :param baseline: what any model should be better than: ``majority``, the commonest label, or the URL of an endpoint
        that classifies texts (templated). Its token is the environment variable ``RATCHET_BASELINE_TOKEN``.
    :param text_column: column of the texts, where ``test_set`` is a Parquet file.
    :param label_column: column of the labels, likewise.
    :param slices: named parts of the test set with figures of their own: name to the fields of
        ``training.slices.Slice``.
    :param behaviour: tests of the candidate's behaviour: of each the fields of ``training.behaviour.BehaviourTest``.
    :param golden_examples: examples recorded for the smoke test of the release.
    :param pipeline: name under which the last evaluation is remembered (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param force: score again (templated).
    :return: ``report``, ``golden`` and ``release`` (URIs), ``candidate``, ``champion`` (a version, or None),
        ``metrics``, ``champion_metrics``, ``hit`` and ``why``.
    :raises AirflowFailException: a model or the test set cannot be used, a model cannot be packaged, or a champion that
        was promoted is gone from MLflow; no report was written.
    """

    stage = "evaluate"
    template_fields = ("candidate", "test_set", "champion", "best", "baseline", "pipeline", "store", "force")
    operator_extra_links = (RunLink(),)
    ui_color = "#e9f5e6"

    def __init__(
        self,
        *,
        candidate: str,
        test_set: str,
        champion: str | None = None,
        best: str | None = None,
        baseline: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        slices: dict[str, dict[str, Any]] | None = None,
        behaviour: list[dict[str, Any]] | None = None,
        golden_examples: int = 32,
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str = ModelRegistryHook.default_conn_name,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.test_set = test_set
        self.champion = champion
        self.best = best
        self.baseline = baseline
        self.text_column = text_column
        self.label_column = label_column
        self.slices = slices
        self.behaviour = behaviour
        self.golden_examples = golden_examples
        self.pipeline = pipeline
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.force = force

    @cached_property
    def registry(self) -> ModelRegistryHook:
        return ModelRegistryHook(self.mlflow_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        candidate = self._registered(self.candidate)
        champion = self._champion()
        best = self._best(champion)
        pipeline = self.pipeline or self.dag_id
        request = EvaluateRequest(
            pipeline=pipeline,
            store=self.store or settings.store_uri(),
            work=str(settings.work_directory()),
            candidate=candidate.uri if candidate else self.candidate,
            champion=champion,
            best=best,
            baseline=self.baseline or None,
            test_set=self.test_set,
            text=self.text_column,
            label=self.label_column,
            golden_examples=self.golden_examples,
            slices=self.slices or {},
            behaviour=self.behaviour or [],
            tracking=Tracking(
                uri=self.registry.tracking_uri,
                experiment=f"ratchet/{pipeline}",
                model_name=candidate.name if candidate else pipeline,
            )
            if candidate or any((one or "").startswith("models:/") for one in (champion, best))
            else None,
            force=as_bool(self.force),
        )
        made = self.run_stage(request, env=self.registry.environment if request.tracking else None)
        if candidate is not None and candidate.uri != champion:
            self.registry.set_alias(candidate, CHALLENGER)
        if candidate and candidate.run_id:
            experiment = self.registry.experiment_of(candidate.run_id)
            push_links(context, run=self.registry.run_url(candidate.run_id, experiment))
        return {**made, "candidate": request.candidate, "champion": champion}

    def _champion(self) -> str | None:
        """Pin an alias to the version it names now, so that every later step speaks of the same one."""
        if not self.champion:
            return None
        if not self.champion.startswith("models:/"):
            return self.champion
        found = self.registry.find_version(self.champion)
        if found is not None:
            return found.uri
        if "@" not in self.champion:
            raise AirflowFailException(f"{self.champion} does not exist; nothing was scored. Name an existing version.")
        self._require_none_promoted()
        self.log.info("%s does not exist yet: there is no champion to compare with", self.champion)
        return None

    def _best(self, champion: str | None) -> str | None:
        best = self.best
        if best == "ledger":
            version = mark(self._ledger())
            best = f"models:/{champion.split('/')[1]}/{version}" if champion and version else None
            if best and self.registry.find_version(best) is None:
                raise AirflowFailException(
                    f"{best}, the best version ever promoted, is not in MLflow any more; nothing was scored, since "
                    "small losses could add up unseen. Bring MLflow's data back, or do without it: ratchet reconcile "
                    f"{self.pipeline or self.dag_id} --fix."
                )
        if not best:
            return None
        found = self._registered(best)
        best = found.uri if found else best
        return None if best == champion else best

    def _ledger(self) -> Ledger:
        from training.store import Store

        return Ledger(Store(self.store or settings.store_uri()), self.pipeline or self.dag_id)

    def _require_none_promoted(self) -> None:
        """An alias that is gone must not make a pipeline with a history look like a new one."""
        promoted = self._ledger().records(ALIAS_DONE)
        if promoted:
            last = promoted[-1]
            raise AirflowFailException(
                f"MLflow knows no {self.champion}, but version {last['to']} was promoted on {last['time'][:10]}; "
                "nothing was scored, since the candidate would pass without a comparison. Bring MLflow's data back or "
                "set the alias again; to start anew, give the pipeline another name."
            )

    def _registered(self, reference: str) -> ModelVersion | None:
        if not reference.startswith("models:/"):
            return None
        found = self.registry.find_version(reference)
        if found is None:
            raise AirflowFailException(f"{reference} does not exist; nothing was scored. Name an existing version.")
        return found
