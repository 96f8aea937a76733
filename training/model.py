"""Find a model by any name it goes by, check it, and keep a checkpoint in the store under its digest."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Tracking, Unreachable
from training.credentials import refusal
from training.store import MANIFEST, Store, digest_of_files, hash_tree, local_path
from training.tags import MODEL_TAG

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


_VERSION = re.compile(r"models:/(?P<name>[^@]+?)(?:/(?P<version>\d+)|@(?P<alias>[^/]+))")
_HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")

WEIGHTS = "*.safetensors"
CARD = "README.md"  # what is said of a model; it may be said anew, so it is no part of what the model is
# of a Hub repository: configuration, tokenizer and safetensors at its top; never pickles, code, other runtimes' weights
MODEL_FILES = ["*.json", WEIGHTS, "*.txt", "*.model", "*.spm", "*.jinja"]
HUB_FILES = [*MODEL_FILES, CARD]
HUB_FOLDERS = ["*/*"]


@dataclass(frozen=True)
class LocalModel:
    """A complete transformers checkpoint, with its tokenizer, on this machine."""

    path: Path
    digest: str  # over its files: docs/architecture.md, "Store"
    name: str  # what was asked for; an alias is resolved to its version


def model_files(directory: Path) -> dict[str, str]:
    """:return: relative path to SHA-256 of a checkpoint's files, its manifest and its card left out."""
    return hash_tree(directory, leave_out=(MANIFEST, CARD))


def model_digest(directory: Path) -> str:
    return digest_of_files(model_files(directory))


def put_model(directory: Path, store: Store, manifest: Mapping[str, Any]) -> tuple[str, str]:
    """
    Keep a checkpoint in the store as ``models/DIGEST``. Safe to repeat, and mends a copy that was damaged.

    :param manifest: what its manifest says beside digest and files.
    :return: the URI of the directory and the digest.
    """
    files = model_files(directory)
    digest = digest_of_files(files)
    noted = {**manifest, "digest": digest, "files": files}
    uri = store.put_directory(directory, f"models/{digest}", noted, overwrite=True)
    return uri, digest


def resolve_model(reference: str, cache: Path, tracking_uri: str | None = None) -> LocalModel:
    """
    Bring a model to this machine. Nothing is fetched twice, and nothing damaged is handed out.

    :param reference: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, a ``file://`` or ``s3://`` URI, a local
        directory, or a Hub id with an optional ``@revision``.
    :param cache: directory for copies of what is not on this machine.
    :param tracking_uri: of MLflow; None: as MLflow itself finds it (``MLFLOW_TRACKING_URI``).
    :raises BadInput: there is no such model, it has no safetensors weights, or its files are not those of its digest.
    """
    if reference.startswith("models:/"):
        return _from_mlflow(reference, cache, tracking_uri)
    if "://" in reference:
        path = _from_store(reference, cache)
    elif Path(reference).expanduser().is_dir():
        path = Path(reference).expanduser().absolute()
    else:
        path = _from_hub(reference, cache)
    _require_checkpoint(path, reference)
    return LocalModel(path, _checked_digest(path, reference), reference)


def model_cache(work: str) -> Path:
    """:return: the directory below ``work`` for copies of what is not on this machine."""
    return Path(work) / "models"


def find_model(reference: str, work: str, tracking: Tracking | None = None) -> LocalModel:
    """
    Bring a model to this machine as ``resolve_model`` does, and wait for MLflow while it is away.

    :param tracking: where MLflow is; None: as MLflow itself finds it (``MLFLOW_TRACKING_URI``).
    """
    if not reference.startswith("models:/"):
        return resolve_model(reference, model_cache(work))
    from training.patience import patiently, send_once

    send_once()
    return patiently(lambda: resolve_model(reference, model_cache(work), tracking.uri if tracking else None))


def is_hub_id(reference: str) -> bool:
    """:return: whether it can be the name of a repository, without a revision."""
    return bool(re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", reference)) and not Path(reference).expanduser().is_dir()


def find_tokenizer(base_model: str) -> Path:
    """
    Bring tokenizer and configuration of a base model to this machine, and no weights.

    :param base_model: a local directory, or a Hub id with an optional ``@revision``.
    :raises BadInput: there is no such model. :raises Unreachable: the Hub cannot be reached.
    """
    if Path(base_model).expanduser().is_dir():
        return Path(base_model).expanduser().absolute()
    return _from_hub(base_model, None, [pattern for pattern in MODEL_FILES if pattern != WEIGHTS])


def model_identity(reference: str, cache: Path, tracking_uri: str | None = None) -> str:
    """
    Say exactly which weights ``reference`` means, for a key, without downloading a Hub model.

    :return: the digest of the files, or ``ID@COMMIT`` of a Hub repository.
    :raises BadInput: there is no such model.
    """
    if reference.startswith("models:/") or "://" in reference or Path(reference).expanduser().is_dir():
        return resolve_model(reference, cache, tracking_uri).digest
    hub_id, revision = _parse_hub_id(reference)
    if revision and _COMMIT.fullmatch(revision):
        return f"{hub_id}@{revision}"
    from huggingface_hub import HfApi

    with _hub_errors(reference):
        return f"{hub_id}@{HfApi().model_info(hub_id, revision=revision).sha}"


def _checked_digest(path: Path, reference: str, expected: str | None = None) -> str:
    try:
        digest = model_digest(path)
    except UnicodeEncodeError as error:
        raise BadInput(f"{reference}: the name {error.object!r} of a file is not UTF-8. Rename it.") from error
    if expected is None:
        expected = _noted_digest(path / MANIFEST, reference)
    if expected is None and _DIGEST.fullmatch(path.name):
        expected = path.name
    if expected is not None and digest != expected:
        raise BadInput(
            f"{reference}: its files have the digest {digest[:12]}, not {expected[:12]} as recorded: "
            "they were changed or damaged, and were not used. Train it again, or restore its files."
        )
    return digest


def _noted_digest(manifest: Path, reference: str) -> str | None:
    """:raises BadInput: there is a manifest, but nobody can tell what it says."""
    if not manifest.is_file():
        return None
    try:
        noted = json.loads(manifest.read_text()).get("digest")
    except (ValueError, AttributeError) as error:
        raise BadInput(
            f"{reference}: its {MANIFEST} is not the JSON of a model ({error}), so nobody can tell whether its files "
            "are whole. They were not used. Put it back, or remove it if it is not from Ratchet."
        ) from error
    return noted if isinstance(noted, str) else None


def _require_checkpoint(path: Path, reference: str) -> None:
    if not (path / "config.json").is_file():
        raise BadInput(f"{reference}: no config.json in {path}; a transformers checkpoint is expected there.")
    if not any(path.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.ckpt") for file in path.glob(pattern))
        found = f" Pickled weights ({', '.join(pickles)}) can run code and are not read." if pickles else ""
        raise BadInput(
            f"{reference}: no .safetensors weights in {path}.{found} "
            "Save the model again with save_pretrained, or choose a revision that has them."
        )


def _from_store(uri: str, cache: Path) -> Path:
    if uri.startswith("file://"):
        path = local_path(uri)
        if not path.is_dir():
            raise BadInput(f"{uri} does not exist. Run the step that makes it again.")
        return path
    root, _, key = uri.rstrip("/").rpartition("/")
    return Store(root).local_directory(key, cache)


def _parse_hub_id(reference: str) -> tuple[str, str | None]:
    found = _HUB_ID.fullmatch(reference)
    if found is None:
        raise BadInput(
            f"{reference!r} is neither a directory on this machine nor a Hub id. Give a path that exists, "
            "models:/NAME/VERSION, models:/NAME@ALIAS, a URI of the store, or a Hub id with an optional @revision."
        )
    return found["id"], found["revision"]


@contextmanager
def _hub_errors(reference: str) -> Iterator[None]:
    """Tell what the Hub will never give from what it does not give just now."""
    from httpx2 import TransportError
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise BadInput(
            f"{reference!r} is no directory on this machine, and the Hub does not give it: {error}. "
            "Check the name, the revision and, for a private or gated model, the token in HF_TOKEN."
        ) from error
    except (TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if why := refusal(error):
            raise BadInput(f"The model {reference!r} could not be fetched. {why}") from error
        # what the client found in place of an answer; without one, its own words are about its cache
        cause = " ".join(str(error.__cause__ or error).split())
        raise Unreachable(
            f"The model {reference!r} could not be fetched: {constants.ENDPOINT} cannot be reached ({cause}). "
            "Name a local directory in its place (in a spec: train.base_model), or set HF_ENDPOINT or HTTPS_PROXY "
            "where Airflow is started."
        ) from error


def _from_hub(reference: str, cache: Path | None, files: Sequence[str] = HUB_FILES) -> Path:
    """:param cache: None: the Hub client's own."""
    from huggingface_hub import snapshot_download

    hub_id, revision = _parse_hub_id(reference)
    with _hub_errors(reference):
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=cache and cache / "hub",
                allow_patterns=list(files),
                ignore_patterns=HUB_FOLDERS,
            )
        )


def _from_mlflow(reference: str, cache: Path, tracking_uri: str | None) -> LocalModel:
    version = _find_version(reference, tracking_uri)
    name = f"models:/{version.name}/{version.version}"
    expected = version.tags.get(MODEL_TAG)
    # a deleted version's number may be given again: the time of creation tells the two apart
    target = cache / "mlflow" / f"{version.name.replace('/', '_')}-{version.version}-{version.creation_timestamp}"
    if target.is_dir():
        if expected is None or model_digest(target) == expected:
            return LocalModel(target, model_digest(target), name)
        shutil.rmtree(target)  # the copy is damaged; the original may be whole
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as scratch:
        checkpoint = _download(name, Path(scratch), tracking_uri)
        _require_checkpoint(checkpoint, name)
        digest = _checked_digest(checkpoint, name, expected)
        checkpoint.replace(target)
    return LocalModel(target, digest, name)


def _find_version(reference: str, tracking_uri: str | None) -> ModelVersion:
    found = _VERSION.fullmatch(reference)
    if found is None:
        raise BadInput(f"{reference!r}: expected models:/NAME/VERSION or models:/NAME@ALIAS.")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri, tracking_uri)
    try:
        if found["alias"]:
            return client.get_model_version_by_alias(found["name"], found["alias"])
        return client.get_model_version(found["name"], found["version"])
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise BadInput(f"{reference} is not in the MLflow registry: {error.message}") from error
        raise


def _download(name: str, scratch: Path, tracking_uri: str | None) -> Path:
    """:return: the transformers checkpoint inside the downloaded model, as one directory."""
    import mlflow.artifacts
    import yaml
    from mlflow.exceptions import MlflowException

    gone = f"{name}: MLflow knows this version, and its files are gone"
    advice = "Put them back from a backup, or set the alias to a version that has its files."
    try:
        downloaded = Path(
            mlflow.artifacts.download_artifacts(
                name, dst_path=str(scratch), tracking_uri=tracking_uri, registry_uri=tracking_uri
            )
        )
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise BadInput(f"{gone} ({error.message}). {advice}") from error
        raise
    if not (downloaded / "MLmodel").is_file():  # nothing to list is nothing to download, and no error
        raise BadInput(f"{gone}. {advice}")
    flavors = yaml.safe_load((downloaded / "MLmodel").read_text())["flavors"]
    artifact = flavors.get("python_function", {}).get("artifacts", {}).get("model")
    if artifact is not None:
        return downloaded / artifact["path"]
    if "transformers" in flavors:
        for tokenizer_file in sorted((downloaded / "components" / "tokenizer").glob("*")):
            shutil.copy(tokenizer_file, downloaded / "model")
        return downloaded / "model"
    raise BadInput(
        f"{name} is an MLflow model of the kind {sorted(flavors)}; expected one that Ratchet trained, "
        "a pyfunc with the artifact `model`, or one of the transformers flavour."
    )
