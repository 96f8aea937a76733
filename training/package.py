"""Turn a checkpoint into a release: what every target serves, converted, checked against the original and named."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.release import (  # before OpenVINO: keeps its telemetry out
    GOLDEN,
    MANIFEST,
    RUNTIME,
    BadRelease,
    digest_of_files,
    digest_of_golden,
    hash_files,
    read_release,
)
from training.contract import BadInput, PackageRequest, PackageResult
from training.forgotten import Forgotten
from training.keys import Records, code_version, key_of
from training.model import LocalModel, find_model, model_files
from training.store import Store, for_fsspec, local_path

if TYPE_CHECKING:
    import numpy as np

    from training.classifier import Classifier

log = logging.getLogger(__name__)

# measured: at most 1e-6 between PyTorch and OpenVINO in f32 on tiny BERT, DistilBERT, RoBERTa and ELECTRA models
SCORE_TOLERANCE = 1e-3

NEUTRAL_TEXTS = ["Hello.", "Where is the next bus stop?", "It was 12:30 when the meeting began.", "a b c d e f g h"]


def package(request: PackageRequest) -> PackageResult:
    """
    Write ``releases/DIGEST`` to the store. The same model, examples and code are packaged once.

    :raises BadInput: the model cannot be packaged, or the converted one answers differently; nothing was written.
    """
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    model = find_model(request.model, request.work)
    golden = _read_golden(request.golden) if request.golden else None
    parts = _parts(model, golden)
    key = key_of(parts)
    records = Records(store, "package")
    found, why = records.look_up(
        key,
        parts,
        request.pipeline,
        lambda found: _is_whole(store, f"releases/{found['digest']}"),
        force=request.force,
    )
    log.info("package: %s", why)
    if found is not None:
        return PackageResult(**found, key=key, hit=True, why=why)

    with store.scratch("package-") as scratch:
        manifest = _build(model, golden, scratch)
        key_in_store = f"releases/{manifest['digest']}"  # overwritten, which mends one that was damaged
        with forgotten.while_writing(store):
            uri = store.put_directory(scratch, key_in_store, manifest, MANIFEST, overwrite=True)
    result = {"release": uri, "digest": manifest["digest"], "model_digest": model.digest}
    records.write(key, parts, result, request.pipeline)
    return PackageResult(**result, key=key, hit=False, why=why)


def package_parts(request: PackageRequest) -> dict[str, Any]:
    """:return: what the key of this release is made of. Writes nothing."""
    model = find_model(request.model, request.work)
    return _parts(model, _read_golden(request.golden) if request.golden else None)


def _parts(model: LocalModel, golden: dict[str, Any] | None) -> dict[str, Any]:
    content = json.dumps(golden, sort_keys=True).encode()
    return {
        "model": model.digest,
        "golden": None if golden is None else hashlib.sha256(content).hexdigest(),
        "openvino": version("openvino"),
        "code": code_version("training", "serving"),
    }


def _build(model: LocalModel, golden: dict[str, Any] | None, directory: Path) -> dict[str, Any]:
    """Fill ``directory`` with the release. :return: what ``release.json`` says."""
    from training.classifier import load_classifier

    (directory / "model").mkdir()
    for name in model_files(model.path):
        link = directory / "model" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((model.path / name).resolve())  # the copy into the store is the only one
    classifier = load_classifier(model.path, model.name)
    examples = _checked_golden(golden, classifier)
    convert(classifier, directory / "openvino" / "model.xml")
    files = hash_files(directory)  # without the golden examples: any of them may be forgotten
    told = {**examples, "digest": digest_of_golden(examples)}
    (directory / GOLDEN).write_text(json.dumps(told, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    manifest = {
        "digest": digest_of_files(files),
        "model_digest": model.digest,
        "labels": list(classifier.labels),
        "max_length": classifier.max_length,
        "runtime": RUNTIME,
        "files": files,
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    _require_parity(directory, examples)
    return manifest


def convert(classifier: Classifier, path: Path) -> None:
    """
    Write the network in OpenVINO's format, in fp32, for any number of texts of any length.

    :raises BadInput: OpenVINO cannot convert this architecture.
    """
    import openvino as ov
    import torch

    model = classifier.model.cpu()
    example = classifier.pad(classifier.encode(["one text", "another, which is longer"]))  # traced with padding
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            # the tracer warns of values it takes for constants; whether that matters, _require_parity finds out
            warnings.simplefilter("ignore")
            converted = ov.convert_model(model, example_input=example)
    except Exception as error:  # OpenVINO raises its own kinds, and tracing whatever the model's code does
        kind = type(model).__name__
        raise BadInput(f"{classifier.name}: OpenVINO cannot convert {kind}: {type(error).__name__}: {error}") from error
    for port in converted.inputs:
        port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
    converted.validate_nodes_and_infer_types()
    _name_by_position(converted)
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(converted, path, compress_to_fp16=False)


def _name_by_position(network: Any) -> None:
    """OpenVINO names nodes by a counter of the process; the same model must give the same file, so count from 0."""
    network.set_friendly_name("model")
    for i, node in enumerate(network.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{i}")


def _is_whole(store: Store, key: str) -> bool:
    """:return: whether the release is complete and, where that costs no download, as it was made."""
    if not store.is_local:
        return store.is_intact(key, MANIFEST)
    try:
        read_release(local_path(store.uri(key)))
    except BadRelease:
        return False
    return True


def _read_golden(uri: str) -> dict[str, Any] | None:
    """:return: None: they were all forgotten."""
    import fsspec

    try:
        with fsspec.open(for_fsspec(uri), "rb") as file:
            golden = json.load(file)
        lengths = {len(golden[name]) for name in ("texts", "labels", "scores")}
    except FileNotFoundError as error:
        raise BadInput(
            f"{uri} does not exist. Evaluate the model again, or package without golden examples."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{uri}: no golden examples ({type(error).__name__}: {error}).") from error
    if lengths == {0} and golden.get("forgotten"):
        return None
    if len(lengths) != 1 or lengths == {0}:
        raise BadInput(f"{uri}: texts, labels and scores are not equally many, or there are none.")
    return golden


def _checked_golden(golden: dict[str, Any] | None, classifier: Classifier) -> dict[str, Any]:
    """
    :return: golden examples that this model answers as they say.
    :raises BadInput: they were recorded from another model.
    """
    import numpy as np

    texts = NEUTRAL_TEXTS if golden is None else golden["texts"]
    scores = classifier.score(texts, batch_size=len(texts))
    if golden is None:
        golden = {
            "texts": texts,
            "labels": [classifier.labels[i] for i in scores.argmax(axis=1)],
            "scores": scores.tolist(),
        }
    if not np.isfinite(scores).all():
        raise BadInput(f"{classifier.name} answers NaN; it was not packaged.")
    if fault := _difference(golden, classifier.labels, scores):
        raise BadInput(f"{classifier.name} is not the model that the golden examples were recorded from: {fault}")
    return golden


def _require_parity(directory: Path, golden: dict[str, Any]) -> None:
    """:raises BadInput: the release, loaded as the server loads it, does not answer as the checkpoint does."""
    import numpy as np

    from serving.model import Model, apply_function, default_function
    from serving.release import read_release

    release = read_release(directory)
    model = Model(release, "f32")
    encodings = model.tokenize(golden["texts"])
    together = model.logits(encodings)
    alone = np.concatenate([model.logits([encoding]) for encoding in encodings])  # other lengths than the traced one
    for logits in (together, alone):
        if fault := _difference(golden, release.labels, apply_function(default_function(release), logits)):
            raise BadInput(f"OpenVINO does not answer as PyTorch does, so nothing was packaged: {fault}")


def _difference(golden: dict[str, Any], labels: list[str] | tuple[str, ...], scores: np.ndarray) -> str | None:
    """:return: where the scores differ from the golden ones; a label may differ only in a near tie."""
    import numpy as np

    recorded = np.array(golden["scores"], dtype=np.float64)
    if recorded.shape != scores.shape:
        return f"{recorded.shape[-1]} labels are recorded, the model has {scores.shape[-1]}."
    difference = np.abs(recorded - scores)
    log.info("golden examples: %d, largest difference of a score %.1e", len(recorded), difference.max())
    if not difference.max() <= SCORE_TOLERANCE:  # "not <=" refuses NaN as well
        row = int(difference.max(axis=1).argmax())
        return f"a score of text {row} differs by {difference[row].max():.4f}, at most {SCORE_TOLERANCE} is allowed."
    best = np.sort(scores, axis=1)
    clear = best[:, -1] - best[:, -2] > 2 * SCORE_TOLERANCE
    for row, (label, answer) in enumerate(zip(golden["labels"], scores.argmax(axis=1), strict=True)):
        if clear[row] and labels[answer] != label:
            return f"text {row} is {labels[answer]!r}, recorded {label!r}."
    return None
