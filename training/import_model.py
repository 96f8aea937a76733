"""Take a model that was trained elsewhere as the candidate: the stage ``import``, in place of ``train``."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, ImportRequest, ImportResult
from training.keys import Records, code_version, key_of, locked
from training.licenses import stated_license
from training.model import find_model, model_cache, model_digest, model_identity, put_model
from training.patience import connect, patiently
from training.progress import Progress
from training.registration import find_version
from training.snapshot import open_snapshot, read_manifest
from training.store import MANIFEST, Store
from training.tags import CODE_TAG, IMPORTED_TAG, LICENSE_TAG, PIPELINE_TAG
from training.text import SHOWN_OF_NAME, shortened, some
from training.tracking import Facts, Journal, Recorder
from training.train import clear

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

STAGE = "import"
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls labels that nobody named
TOKENIZER = "tokenizer.json"
# What transformers loads a classifier and its tokenizer from. Whatever else is beside them is somebody's own
LOADED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
RECORDED = {"model", "digest", "license", "labels"}  # fields of an ImportResult


def import_model(request: ImportRequest) -> ImportResult:
    """
    Keep a model in the store as training would, and make it a version in MLflow.

    Safe to retry: the same files under the same labels are fetched once, and are one version.

    :raises BadInput: there is no such model, the steps that follow could not use it, or it does not answer with the
        labels of the test split; nothing was registered.
    """
    store = Store(request.store)
    records = Records(store, STAGE)
    with Progress() as progress:
        progress.doing("looking for the model")
        name, identity = _resolve(request)
        parts = {"model": identity, "labels": dict(request.labels)}
        key = key_of(parts)
        with locked(Path(request.work) / STAGE / key) as work:
            try:
                found, why = records.look_up(
                    key,
                    parts,
                    request.pipeline,
                    lambda made: made.keys() == RECORDED and store.is_intact(store.key(made["model"])),
                    force=request.force,
                )
                log.info("%s: %s", STAGE, why)
                made = found
                if made is None:
                    progress.doing("fetching the model")
                    made = _fetch(request, name, identity, key, store, work / "model")
                    records.write(key, parts, made, request.pipeline)
                elif not _of_hub(identity):  # the card is no part of what a key knows it by
                    source = find_model(name, request.work, request.tracking).path
                    made = {**made, "license": stated_license(source)}
                result = ImportResult(**made, source=name, key=key, hit=found is not None, why=why)
                _note_origin(store, result, request.labels)
                _require_labels(result, request.snapshot)
                if request.tracking is not None:
                    progress.doing("recording in MLflow")
                    result = _make_known(result, request, store, work)
            finally:
                clear(work)
    return result


def _resolve(request: ImportRequest) -> tuple[str, str]:
    """:return: the model with its revision or version, so that it stays the same one, and what a key knows it by."""
    reference = request.model.removeprefix("hf://")
    if reference.startswith("models:/"):
        model = find_model(reference, request.work, request.tracking)
        return model.name, model.digest
    identity = model_identity(reference, model_cache(request.work))
    return (identity if "@" in identity else reference), identity


def _fetch(request: ImportRequest, name: str, identity: str, key: str, store: Store, folder: Path) -> dict[str, Any]:
    """
    Put the model into the store, once it has answered.

    :param folder: for a copy of what belongs to a model.
    :return: what is recorded of it.
    """
    source = find_model(name, request.work, request.tracking).path
    _copy(source, folder, name, model_cache(request.work))
    if not _of_hub(identity) and model_digest(source) != identity:
        raise BadInput(f"{name} was changed while it was read. Nothing was imported. Try again when it is finished.")
    labels = _require_answers(folder, name)
    if request.labels:
        labels = _rename(labels, request.labels, name)
        _write_labels(folder / "config.json", labels)
    place, stated = f"models/{model_digest(folder)}", stated_license(source)
    if not store.is_intact(place):  # one that was trained here keeps what its manifest says of its training
        put_model(folder, store, {"labels": labels, "key": key, "imported": _origin(name, stated, request.labels)})
    return {
        "model": store.uri(place),
        "digest": place.rpartition("/")[2],
        "license": stated,
        "labels": labels,
    }


def _copy(source: Path, folder: Path, name: str, cache: Path) -> None:
    """
    :param cache: in which files may be links to one another, as those of the Hub are.
    :raises BadInput: one of the files is none, or is somewhere else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    roots = [place.resolve() for place in (source, cache)]
    for path in sorted(source.iterdir()):
        if not any(fnmatchcase(path.name, pattern) for pattern in LOADED):
            continue
        if not path.is_file():
            raise BadInput(f"{name}: {path.name} is no file, or a link to nothing. Nothing was imported.")
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise BadInput(
                f"{name}: {path.name} is a link to {path.resolve()}, which is not in that directory. Nothing was "
                "imported. Copy the files in place of the links (cp -rL) and give the copy."
            )
        shutil.copyfile(path, folder / path.name)


def _of_hub(identity: str) -> bool:
    return "@" in identity


def _origin(name: str, stated: str | None, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"from": name, "license": stated, "renamed": dict(labels)}


def _note_origin(store: Store, model: ImportResult, labels: Mapping[str, str]) -> None:
    """Have the manifest of the model say where it was found last, and under which licence; the card tells it."""
    manifest = f"{store.key(model.model)}/{MANIFEST}"
    noted = store.read_json(manifest)
    told = _origin(model.source, model.license, labels)
    if "imported" in noted and noted["imported"] != told:
        store.write_json(manifest, {**noted, "imported": told})


def _rename(labels: Sequence[str], names: Mapping[str, str], name: str) -> list[str]:
    """
    :param names: what the model calls a label to what the data calls it.
    :raises BadInput: the model has no such label, or two of them would be one.
    """
    if unknown := sorted(set(names) - set(labels)):
        raise BadInput(f"{name} knows no label {some(unknown)}, only {some(labels)}. Nothing was imported.")
    renamed = [names.get(label, label) for label in labels]
    if len(set(renamed)) < len(renamed):
        raise BadInput(f"{name}: two of its labels would get the same name: {some(renamed)}. Nothing was imported.")
    return renamed


def _write_labels(config: Path, labels: Sequence[str]) -> None:
    values = json.loads(config.read_text(encoding="utf-8"))
    values["id2label"] = {str(number): label for number, label in enumerate(labels)}
    values["label2id"] = {label: number for number, label in enumerate(labels)}
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _require_answers(folder: Path, name: str) -> list[str]:
    """
    Load the model and ask it a few texts, as the evaluation will.

    :return: its labels, in the order of their ids.
    :raises BadInput: it cannot be loaded, cannot answer, or gives no finite scores.
    """
    import numpy as np
    import torch

    from training.classifier import load_classifier
    from training.package import NEUTRAL_TEXTS

    classifier = load_classifier(folder, name)
    if not classifier.tokenizer.is_fast:
        raise BadInput(f"{name} has no fast tokenizer, which serving needs. Save it again with a {TOKENIZER}.")
    known = classifier.model.get_input_embeddings().num_embeddings
    if len(classifier.tokenizer) > known:
        raise BadInput(
            f"{name}: its tokenizer has {len(classifier.tokenizer):,} tokens and its network {known:,}, so they do not "
            "belong together. Nothing was imported."
        )
    if not (folder / TOKENIZER).is_file():
        classifier.tokenizer.save_pretrained(folder)  # so that no other machine has to convert it
    try:
        scores = classifier.score(NEUTRAL_TEXTS, batch_size=len(NEUTRAL_TEXTS))
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise BadInput(f"{name} cannot answer {NEUTRAL_TEXTS[0]!r}: {error}. Nothing was imported.") from error
    if not np.isfinite(scores).all():
        raise BadInput(f"{name} answers NaN to {NEUTRAL_TEXTS[0]!r}. Nothing was imported.")
    return list(classifier.labels)


def _require_labels(model: ImportResult, snapshot: str) -> None:
    """:raises BadInput: the test split has a label that the model does not know, so that it could not be evaluated."""
    rows = read_manifest(*open_snapshot(snapshot))["label_rows"]["test"]
    tested = [label for label, count in rows.items() if count]
    lacking = [label for label in tested if label not in model.labels]
    if not lacking:
        return
    if len(lacking) == len(tested):
        fault = f"it knows none of the labels of the test split, {some(tested)}"
    else:
        fault = f"the test split has rows of {some(lacking)}, which it does not know"
    unnamed = all(UNNAMED.fullmatch(label) for label in model.labels)
    hint = " Nobody named them: their order is known to whoever trained it." if unnamed else ""
    example = "=".join(shortened(label, SHOWN_OF_NAME) for label in (model.labels[0], tested[0]))
    raise BadInput(
        f"{model.source} cannot be a candidate: {fault}. Its own labels are {some(model.labels)}.{hint} Nothing was "
        f"registered. Say what they are called in the data: --label {example}, or the run parameter model_labels."
    )


def _tag(client: MlflowClient, version: ModelVersion, model: ImportResult) -> None:
    """Have a version that is there already say where its model was found last, and under which licence."""
    told = {IMPORTED_TAG: model.source, LICENSE_TAG: model.license}
    for tag, value in told.items():
        if value is None and tag in version.tags:
            client.delete_model_version_tag(version.name, version.version, tag)
        elif value is not None and version.tags.get(tag) != value:
            client.set_model_version_tag(version.name, version.version, tag, value)


def _make_known(result: ImportResult, request: ImportRequest, store: Store, work: Path) -> ImportResult:
    """Log and register the model, unless MLflow has it."""
    assert request.tracking is not None
    client, name = connect(request.tracking), request.tracking.model_name
    version = patiently(lambda: find_version(client, name, result.key, result.digest))
    if version is not None:
        run = patiently(lambda: client.get_run(str(version.run_id)))
        if run.info.status == "FINISHED":
            patiently(lambda: _tag(client, version, result))
            return replace(
                result, run_id=version.run_id, experiment_id=run.info.experiment_id, version=str(version.version)
            )
    tags = {PIPELINE_TAG: request.pipeline, CODE_TAG: code_version(), IMPORTED_TAG: result.source}
    if result.license is not None:
        tags[LICENSE_TAG] = result.license
    facts = Facts({"imported": result.source}, tags)
    recorder = Recorder(request.tracking, result.key, facts, Journal(work / "journal.jsonl"), client)
    checkpoint = store.local_directory(store.key(result.model), model_cache(request.work))
    published = recorder.publish(checkpoint, result.digest, work / "mlflow")
    return replace(result, run_id=published.run_id, experiment_id=published.experiment_id, version=published.version)
