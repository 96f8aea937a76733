"""Train a candidate on a snapshot: the stage ``train``."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from training import checkpoints
from training.contract import BadInput, TrainRequest, TrainResult
from training.forgotten import Forgotten
from training.keys import ABANDONED_SECONDS, Records, code_version, key_of, locked
from training.lineage import objects_of_snapshot
from training.model import model_cache, model_identity, put_model
from training.patience import connect, patiently
from training.progress import Progress
from training.registration import find_version
from training.snapshot import open_snapshot, read_manifest
from training.stage import write_result
from training.store import MANIFEST, PART, Store, sha256_file
from training.tags import BASE_MODEL_TAG, CODE_TAG, DATA_REPORT_TAG, PIPELINE_TAG, SNAPSHOT_TAG
from training.tracking import Dataset, Facts, Journal, Point, Recorder

log = logging.getLogger(__name__)

STAGE = "train"
OBJECTS = "data/objects.json"  # in the MLflow run: what the snapshot is made of
TRAINED = "trained.json"  # in the work directory: the model is in the store, MLflow may not know it yet
FORCED_BY = "forced-by.json"  # in the work directory: the run that all else there belongs to


@dataclass(frozen=True)
class Trained:
    """A model in the store, and what MLflow is told about its making."""

    model: str
    digest: str
    metrics: dict[str, float]
    epochs: float
    seconds: float


def train(request: TrainRequest) -> TrainResult:
    """
    Fine-tune the base model, keep the best epoch in the store, and record it in MLflow.

    Safe to retry: finished work is found by its key, unfinished work continues from the last whole checkpoint, and
    what MLflow already has is not made twice.

    :raises BadInput: the snapshot, the base model or the configuration cannot be trained with.
    """
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    records = Records(store, STAGE)
    parts = train_parts(request)
    key = key_of(parts)
    with locked(Path(request.work) / STAGE / key) as work:
        _clear_abandoned(request.work)
        if request.force:
            _forget_other_runs(work, request.run)

        def record(made: Mapping[str, Any]) -> None:
            with forgotten.while_writing(store):
                records.write(key, parts, made, request.pipeline)

        def is_whole(result: dict[str, Any]) -> bool:
            return store.is_intact(store.key(result["model"]))

        untold = _read_json(work / TRAINED)  # of an attempt that MLflow has not heard of
        if untold is not None and is_whole(untold):
            found, hit, why = untold, False, records.why_miss(parts, request.pipeline, force=request.force)
        else:
            found, why = records.look_up(key, parts, request.pipeline, is_whole, force=request.force)
            hit = found is not None
        log.info("%s: %s", STAGE, why)
        if found is not None:
            trained = Trained(**{name: found[name] for name in Trained.__dataclass_fields__})
            result = _make_known(request, store, key, trained, work, forgotten)
        else:
            result = _train(request, store, key, work, record)
        result = replace(result, hit=hit, why=why)
        if not hit:
            record(asdict(result))
        clear(work)
    return result


def train_parts(request: TrainRequest) -> dict[str, Any]:
    """:return: all that decides what is trained; equal parts make the same model. Imports nothing heavy."""
    return {
        "snapshot": _snapshot_digest(request),
        "base_model": model_identity(request.base_model, model_cache(request.work)),
        "arguments": dict(request.arguments),
        "class_weights": request.class_weights,
        "trainer": _trainer_identity(request.trainer),
        "max_length": request.max_length,
        "early_stopping_epochs": request.early_stopping_epochs,
        "code": code_version(),
    }


def _trainer_identity(trainer: str | None) -> str | None:
    """:return: the name with the digest of the file that defines it: an edit makes another model."""
    if trainer is None:
        return None
    module = trainer.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise BadInput(f"train.trainer {trainer!r}: module {module!r} cannot be found: {error}.") from error
    if spec is None or spec.origin is None:
        raise BadInput(
            f"train.trainer {trainer!r}: there is no module {module!r} in the training environment. "
            "Install it there, or name its directory in the setting [ratchet] training_path."
        )
    return f"{trainer}@{sha256_file(Path(spec.origin))}"


def _forget_other_runs(work: Path, run: str | None) -> None:
    """Leave a forced training nothing to continue but what the same run has begun: what others left is not new."""
    if run is None or _read_json(work / FORCED_BY) != run:
        clear(work)
        write_result(work / FORCED_BY, json.dumps(run))


def _read_json(path: Path) -> Any:
    """:return: its content, or None where there is none: a power cut may leave an empty file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def clear(work: Path) -> None:
    """Remove checkpoints and journal; the lock stays, since others may be waiting for it."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _clear_abandoned(directory: str) -> None:
    """Remove what killed attempts left in the work directory, once nobody has gone on with it for a week."""
    since = time.time() - ABANDONED_SECONDS
    cache = model_cache(directory)
    for part in [*cache.glob(f"{PART}*"), *cache.glob(f"*/{PART}*")]:
        with suppress(OSError):  # another training removes it at this moment
            if part.stat().st_mtime < since:
                shutil.rmtree(part)
    for work in (Path(directory) / STAGE).iterdir():
        with suppress(OSError):  # or has just taken it up, and holds its lock
            left = {path.name: path.stat().st_mtime for path in work.iterdir()}
            if left.keys() - {"lock"} and max(left.values()) < since:
                with locked(work, wait_seconds=0):
                    log.info("%s was left a week ago and is cleared.", work)
                    clear(work)


def _result(key: str, trained: Trained) -> TrainResult:
    return TrainResult(key=key, hit=False, why="", **asdict(trained))


def _snapshot_digest(request: TrainRequest) -> str:
    return request.snapshot.rstrip("/").rpartition("/")[2]


def _facts(request: TrainRequest, told: Mapping[str, Any]) -> Facts:
    """:param told: what the model's manifest says about its training."""
    tags = {
        PIPELINE_TAG: request.pipeline,
        SNAPSHOT_TAG: _snapshot_digest(request),
        CODE_TAG: code_version(),
        BASE_MODEL_TAG: told["base_model"],
    }
    datasets = [
        Dataset(split, request.snapshot, _snapshot_digest(request), rows) for split, rows in told["rows"].items()
    ]
    report, files = _origin(request.snapshot)
    return Facts(told["parameters"], {**tags, **report}, datasets, files)


def _origin(snapshot: str) -> tuple[dict[str, str], dict[str, str]]:
    """
    Say what the training rows came from, as far as the store still knows.

    :return: the tag with the address of the data report, and the file with the objects.
    """
    try:
        store, key = open_snapshot(snapshot)
        report = read_manifest(store, key).get("report")
        objects = [asdict(one) for one in objects_of_snapshot(store, key)]
    except BadInput as error:
        log.warning("MLflow is not told which objects the model was trained on: %s", error)
        return {}, {}
    listed = json.dumps({"snapshot": snapshot, "objects": objects}, indent=1)
    return {DATA_REPORT_TAG: report} if report else {}, {OBJECTS: listed}


def _make_known(
    request: TrainRequest, store: Store, key: str, trained: Trained, work: Path, forgotten: Forgotten
) -> TrainResult:
    """Log and register a model that is already in the store, unless MLflow has it. Nothing is trained."""
    result = _result(key, trained)
    if request.tracking is None:
        return result
    client, name = connect(request.tracking), request.tracking.model_name
    with Progress() as progress:
        progress.doing("looking for the model in MLflow")
        version = patiently(lambda: find_version(client, name, key, trained.digest))
        if version is not None:
            run = patiently(lambda: client.get_run(str(version.run_id)))
            if run.info.status == "FINISHED":
                return replace(
                    result, run_id=version.run_id, experiment_id=run.info.experiment_id, version=str(version.version)
                )
        forgotten.require_unchanged(store)
        log.info("MLflow does not have this model as a version of %s: it is logged without training.", name)
        progress.doing("recording in MLflow")
        model_key = store.key(trained.model)
        told = store.read_json(f"{model_key}/{MANIFEST}")["training"]
        journal = Journal(work / "journal.jsonl")
        journal.add(Point(*point) for point in told["history"])
        recorder = Recorder(request.tracking, key, _facts(request, told), journal, client)
        checkpoint = store.local_directory(model_key, model_cache(request.work))
        return replace(result, **asdict(recorder.publish(checkpoint, trained.digest, work / "mlflow")))


def _train(
    request: TrainRequest, store: Store, key: str, work: Path, record: Callable[[Mapping[str, Any]], None]
) -> TrainResult:
    """:param record: told of the finished model before MLflow is: no outage there makes it be trained again."""
    from training.fit import fit, prepare

    started = time.monotonic()
    recorder: Recorder | None = None
    with Progress() as progress:
        try:
            job = prepare(request, work, progress)
            told = {
                "base_model": job.base_model,
                "license": job.license,
                "rows": job.rows,
                "parameters": job.parameters,
            }
            journal = Journal(work / "journal.jsonl")
            if request.tracking is not None:
                recorder = Recorder(request.tracking, key, _facts(request, told), journal)
                recorder.start()
            fitted = fit(job, progress, journal.record)
            progress.doing("saving the model")
            model = checkpoints.copy_model(fitted.checkpoint, work / "model")
            history = [astuple(point) for point in journal.points if not point.name.startswith("system/")]
            notes = {"labels": job.labels, "key": key, "training": {**told, "history": history}}
            uri, digest = put_model(model, store, notes)
            trained = Trained(uri, digest, fitted.metrics, fitted.epochs, time.monotonic() - started)
            result = _result(key, trained)
            record(asdict(result))
            write_result(work / TRAINED, json.dumps(asdict(trained)))
            log.info("Model %s: %s", digest[:12], _spoken(fitted.metrics))
            if recorder is None:
                return result
            progress.doing("recording in MLflow")
            return replace(result, **asdict(recorder.publish(model, digest, work / "mlflow", upload_again=True)))
        except BaseException as error:
            if recorder is not None:
                recorder.abort("KILLED" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "FAILED")
            raise


def _spoken(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) or "no validation rows, no metrics"
