"""
Keep one MLflow run for each training key, and tell it how the training goes.

Everything is looked for before it is created, so that a retry after any failure finds what the first attempt left.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Tracking
from training.keys import ABANDONED_SECONDS
from training.patience import OUTAGE_SECONDS, connect, patiently
from training.registration import log_model, register
from training.tags import KEY_TAG, MODEL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "accelerate", "safetensors", "mlflow", "pandas", "numpy")  # of the environment

FLUSH_SECONDS = 2.0
SYSTEM_SECONDS = 5.0
SIGN_OF_LIFE = "system/cpu_utilization_percentage"  # recorded every SYSTEM_SECONDS
BATCH = 500  # MLflow takes at most 1000 metrics in a request
PARAMETERS_AT_ONCE = 100  # MLflow's limit for a request


@dataclass(frozen=True)
class Published:
    run_id: str
    experiment_id: str
    version: str


@dataclass(frozen=True)
class Facts:
    """What a run is told about itself, once."""

    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    datasets: Sequence[Dataset] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # path among the run's artifacts, to text


@dataclass(frozen=True)
class Dataset:
    split: str
    source: str
    digest: str
    rows: int


@dataclass(frozen=True)
class Point:
    name: str
    value: float
    step: int
    time_ms: int


class Journal:
    """Metrics on disk, each once for each step: what MLflow has not yet seen survives an outage and a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.points: list[Point] = []
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    self.points.append(Point(*json.loads(line)))
                except (ValueError, TypeError):
                    continue  # a kill cut it short, or a power cut left other bytes in its place
        self._seen = {(point.name, point.step) for point in self.points}
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("\n")  # ends a line that a kill cut short

    def record(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep the numbers among ``metrics``."""
        now = time.time_ns() // 1_000_000
        self.add(Point(name, float(value), step, now) for name, value in metrics.items() if math.isfinite(value))

    def add(self, points: Iterable[Point]) -> None:
        """Keep ``points``; a step that is trained again after a resume does not count twice."""
        with self._lock, self._path.open("a") as file:
            for point in points:
                if (point.name, point.step) not in self._seen:
                    self._seen.add((point.name, point.step))
                    self.points.append(point)
                    file.write(json.dumps(astuple(point)) + "\n")

    def next_step(self, prefix: str) -> int:
        return 1 + max((point.step for point in self.points if point.name.startswith(prefix)), default=-1)


class Recorder:
    """
    Follows a run from a thread of its own; training never waits for MLflow.

    :param journal: metrics recorded so far, and from now on.
    :param client: for tests; None: MLflow at ``tracking.uri``.
    """

    def __init__(
        self, tracking: Tracking, key: str, facts: Facts, journal: Journal, client: MlflowClient | None = None
    ) -> None:
        self.tracking, self.key, self.facts, self.journal = tracking, key, facts, journal
        self.client = client or connect(tracking)
        self._run: Run | None = None
        self._acknowledged = 0  # points of the journal that MLflow has
        self._on_server: set[tuple[str, int]] = set()
        self._busy = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="mlflow", daemon=True),
            threading.Thread(target=self._sample_system, name="system-metrics", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def publish(
        self,
        checkpoint: Path,
        digest: str,
        scratch: Path,
        outage_seconds: float = OUTAGE_SECONDS,
        *,
        upload_again: bool = False,
    ) -> Published:
        """
        Send what is left, log and register the model, and end the run. Safe to repeat.

        :param upload_again: replace the files of a model that MLflow has: whoever trained it anew may mean to mend it.
        :raises Exception: MLflow was not to be reached for ``outage_seconds``; a retry continues here.
        """
        self._stop.set()

        def everything() -> Published:
            with self._busy:
                run = self._flush()
                tags = self._version_tags(digest)
                model = log_model(self.client, run, checkpoint, tags, scratch, upload_again=upload_again)
                version = register(self.client, self.tracking.model_name, run, model, tags)
                self.client.set_terminated(run.info.run_id, "FINISHED")
            return Published(run.info.run_id, run.info.experiment_id, str(version.version))

        return patiently(everything, outage_seconds)

    def abort(self, status: str, wait_seconds: float = 2.0) -> None:
        """Note in MLflow how the run ended, if that can be done at once; a later attempt continues the same run."""
        self._stop.set()

        def end() -> None:
            try:
                with self._busy:
                    self.client.set_terminated(self._flush().info.run_id, status)
            except Exception as error:
                log.warning("MLflow was not told that the run is %s: %s", status, error)

        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        thread.join(wait_seconds)

    def _follow(self) -> None:
        reachable = True
        while not self._stop.wait(FLUSH_SECONDS if reachable else 2 * FLUSH_SECONDS):
            try:
                with self._busy:
                    self._flush()
                if not reachable:
                    log.info("MLflow answers again; nothing was lost.")
                reachable = True
            except Exception as error:
                if reachable:
                    log.warning("MLflow does not answer; metrics are kept until it does: %s", error)
                reachable = False

    def _sample_system(self) -> None:
        """Record what MLflow's own monitors see, through the journal: its monitor gives up at the first outage."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        try:
            monitors.append(GPUMonitor())
        except Exception as error:  # no GPU, or no library to ask it
            log.debug("No GPU metrics: %s", error)
        step = self.journal.next_step("system/")
        while True:
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values.update(monitor.aggregate_metrics())
                monitor.clear_metrics()
            self.journal.record({f"system/{name}": value for name, value in values.items()}, step)
            step += 1
            if self._stop.wait(SYSTEM_SECONDS):
                return

    def _flush(self) -> Run:
        """Bring the run up to date. Callers hold ``_busy``."""
        from mlflow.entities import Metric

        if self._run is None:
            self._run = self._open_run()
        run_id = self._run.info.run_id
        while pending := self.journal.points[self._acknowledged : self._acknowledged + BATCH]:
            new = [point for point in pending if (point.name, point.step) not in self._on_server]
            if new:
                self.client.log_batch(run_id, [Metric(p.name, p.value, p.time_ms, p.step) for p in new])
            self._acknowledged += len(pending)
        return self._run

    def _open_run(self) -> Run:
        experiment_id = self._experiment()
        run = find_run(self.client, experiment_id, self.key)
        tags = {KEY_TAG: self.key, **self.tracking.tags, **self.facts.tags, **environment()}
        if run is None:
            name = f"{self.tracking.model_name}-{self.key[:8]}"
            run = self.client.create_run(experiment_id, tags=tags, run_name=name)
            log.info("MLflow run %s in experiment %s", run.info.run_id, self.tracking.experiment)
        else:
            log.info("MLflow run %s continues", run.info.run_id)
            self.client.update_run(run.info.run_id, status="RUNNING")
            self._on_server = {
                (metric.key, metric.step)
                for name in run.data.metrics
                for metric in self.client.get_metric_history(run.info.run_id, name)
            }
        self._describe(run, tags)
        self._end_abandoned(experiment_id, run)
        return run

    def _end_abandoned(self, experiment_id: str, own: Run) -> None:
        """A run that was killed and that nobody took up again would be shown as running for ever."""
        since = int((time.time() - ABANDONED_SECONDS) * 1000)
        running = f"attributes.status = 'RUNNING' AND attributes.start_time < {since}"
        for run in self.client.search_runs([experiment_id], running):
            if KEY_TAG in run.data.tags and run.info.run_id != own.info.run_id:
                signs = self.client.get_metric_history(run.info.run_id, SIGN_OF_LIFE)
                if all(metric.timestamp < since for metric in signs):
                    self.client.set_terminated(run.info.run_id, "KILLED")

    def _describe(self, run: Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag, Param, RunTag

        run_id = run.info.run_id
        # a value that was logged cannot change; an attempt on another machine may have, say, another precision
        parameters = [
            Param(name, str(value)[:6000])
            for name, value in self.facts.parameters.items()
            if name not in run.data.params
        ]
        changed = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
        for start in range(0, max(len(parameters), 1), PARAMETERS_AT_ONCE):
            batch = parameters[start : start + PARAMETERS_AT_ONCE]
            self.client.log_batch(run_id, params=batch, tags=changed if start == 0 else [])
        known = {dataset_input.dataset.digest for dataset_input in run.inputs.dataset_inputs} if run.inputs else set()
        inputs = [
            DatasetInput(
                MlflowDataset(
                    name=f"{self.tracking.model_name}-{dataset.split}",
                    digest=dataset.digest[:32],  # MLflow keeps 36 characters; the whole one is a tag
                    source_type="uri",
                    source=json.dumps({"uri": dataset.source}),
                    profile=json.dumps({"num_rows": dataset.rows}),
                ),
                [InputTag("mlflow.data.context", dataset.split)],
            )
            for dataset in self.facts.datasets
            if dataset.digest[:32] not in known
        ]
        if inputs:
            self.client.log_inputs(run_id, inputs)
        for path, text in self.facts.files.items():
            self.client.log_text(run_id, text, path)

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(self.tracking.experiment)
        if experiment is None:
            try:
                return self.client.create_experiment(self.tracking.experiment)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = self.client.get_experiment_by_name(self.tracking.experiment)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise BadInput(
                f"The MLflow experiment {self.tracking.experiment!r} is deleted, so nothing can be logged to it. "
                "Restore it (mlflow experiments restore), then retry: the model is kept."
            )
        return experiment.experiment_id

    def _version_tags(self, digest: str) -> dict[str, str]:
        ours = {name: value for name, value in self.facts.tags.items() if name.startswith("ratchet.")}
        return {KEY_TAG: self.key, MODEL_TAG: digest, **self.tracking.tags, **ours}


def find_run(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    runs = client.search_runs(
        [experiment_id], f"tags.`{KEY_TAG}` = '{key}'", order_by=["attributes.start_time ASC"], max_results=1
    )
    return runs[0] if runs else None


def environment() -> dict[str, str]:
    """:return: tags that tell what a run ran on."""
    import torch

    versions = {f"environment.{name}": metadata.version(name) for name in LIBRARIES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        **versions,
        "environment.python": platform.python_version(),
        "environment.platform": platform.platform(),
        "environment.processor": _processor(),
        "environment.cpus": str(os.cpu_count()),
        "environment.gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
