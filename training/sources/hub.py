"""
Read a data set of the Hugging Face Hub: ``hf://ORG/NAME@REVISION[/CONFIG][?split=NAME]``.

Without ``?split=`` the data set's own splits are used as such: its ``test`` and ``validation`` splits are ours, and
what it has none of is cut from its ``train`` split by the hash of the text. ``?split=`` takes one split as plain rows.
A revision with a slash is written with ``%2F``. Without a revision it is ``main`` as it is now.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import unquote

from training.contract import BadInput, Split
from training.credentials import refusal
from training.sources.columnar import blocks_of
from training.sources.part import Block, Columns, Part, ReadFailed, Source, check_columns

log = logging.getLogger(__name__)

ADDRESS = re.compile(
    r"hf://(?:datasets/)?(?P<repo>[^/@?]+(?:/[^/@?]+)?)(?:@(?P<revision>[^/?]+))?"
    r"(?:/(?P<config>[^/?]+))?(?:\?split=(?P<split>[^&]+))?"
)
BATCH_ROWS = 1000  # assumed: small enough for texts of a megabyte; blocks gather them


def open_hub(uri: str, role: Split | None) -> Source:
    """:raises BadInput: address, revision, configuration or split does not exist, or needs other credentials."""
    address = ADDRESS.fullmatch(uri)
    if address is None:
        raise BadInput(f"{uri}: not an address of a data set. Write hf://ORG/NAME@REVISION, /CONFIG and ?split=NAME.")
    repo, config, chosen = address["repo"], address["config"], address["split"]
    revision = unquote(address["revision"]) if address["revision"] else None
    commit, modified = _commit(uri, repo, revision)
    splits, files = _stream(uri, repo, config, commit)
    picked = _pick(uri, splits, chosen, role)
    passed_over = sorted(set(splits) - set(picked))
    if passed_over:
        log.info("%s: splits not used: %s", uri, ", ".join(passed_over))
    parts = [
        Part(
            f"{uri.partition('?')[0]}?split={name}",
            commit,
            partial(_read, splits[name], name=uri),
            modified=modified,
            split=split,
        )
        for name, split in picked.items()
    ]
    return Source(parts, {"uri": uri, "files": files, "revision": commit})


def _commit(uri: str, repo: str, revision: str | None) -> tuple[str, datetime | None]:
    """Resolve the revision first: ``datasets`` itself would fall back on whatever revision an old cache holds."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = HfApi().dataset_info(repo, revision=revision, timeout=60)
    except RevisionNotFoundError as error:
        raise BadInput(
            f"{uri}: the data set {repo} has no revision {revision!r}, or not any more. "
            "Nothing was read. Choose a commit that exists."
        ) from error
    except GatedRepoError as error:
        raise BadInput(f"{uri}: {repo} is gated. Ask for access on its page and set HF_TOKEN.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BadInput(f"{uri}: no data set {repo} on the Hub, or HF_TOKEN may not read it.") from error
    except OfflineModeIsEnabled as error:
        raise BadInput(f"{uri}: the environment forbids the Hub (HF_HUB_OFFLINE). Unset it or use files.") from error
    except Exception as error:
        if refusal(error):
            raise
        raise ReadFailed(f"{uri}: the Hub does not answer ({_first(error)}). Nothing was read. Try again.") from error
    if revision is None:
        log.info("%s: no revision given, main is %s now", uri, info.sha)
    return str(info.sha), info.last_modified


def _stream(uri: str, repo: str, config: str | None, commit: str) -> tuple[Mapping[str, Any], int]:
    """:return: the data set's splits, unread, and the number of its files."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError

    try:
        builder = load_dataset_builder(f"hf://datasets/{repo}", config, revision=commit)
        if builder.hash != commit:
            raise RuntimeError(f"{uri}: the Hub stopped answering, and the cache holds {builder.hash}. Retry.")
        splits = builder.as_streaming_dataset()
    except (DatasetsError, ValueError) as error:  # a ValueError names the configurations there are
        raise BadInput(f"{uri}: {' '.join(str(error).split())}") from error
    except Exception as error:
        if refusal(error):
            raise
        raise ReadFailed(f"{uri}: the Hub does not answer ({_first(error)}). Nothing was read. Try again.") from error
    files = builder.config.data_files or {}
    return {str(name): split for name, split in splits.items()}, sum(len(urls) for urls in files.values())


def _first(error: BaseException) -> str:
    """:return: what went wrong in the first place: what the libraries make of it in the end says less."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return " ".join(f"{type(error).__name__}: {error}".split())


def _pick(uri: str, splits: Mapping[str, Any], chosen: str | None, role: Split | None) -> dict[str, Split | None]:
    """:return: the data set's splits to read, with ours that they are; None: to be cut."""
    found = ", ".join(splits)
    if chosen is not None:
        if chosen not in splits:
            raise BadInput(f"{uri}: no split {chosen!r}. There are: {found}.")
        return {chosen: None}
    if role is not None:
        if role in splits or len(splits) == 1:
            return {role if role in splits else next(iter(splits)): None}
        raise BadInput(f"{uri}: no split {role!r}. There are: {found}. Choose one with ?split=NAME.")
    if "train" not in splits:
        if len(splits) == 1:
            return {next(iter(splits)): None}
        raise BadInput(f"{uri}: no split 'train'. There are: {found}. Choose one with ?split=NAME.")
    own: dict[str, Split | None] = {"train": None, "validation": "validation", "test": "test"}
    return {name: split for name, split in own.items() if name in splits}


def _read(dataset: Any, columns: Columns, *, name: str) -> Iterator[Block]:
    import pyarrow
    from datasets.exceptions import DatasetsError

    number = 0

    def tables() -> Iterator[pyarrow.Table]:
        nonlocal number
        for table in dataset.with_format("arrow").iter(BATCH_ROWS):
            if not number:
                check_columns(name, table.column_names, columns)
            number += len(table)
            yield table

    try:
        yield from blocks_of(tables(), columns, _names(dataset, columns))
    except (DatasetsError, pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        raise BadInput(f"{name}: unreadable after row {number:,} ({' '.join(str(error).split())}).") from error
    except BadInput:
        raise
    except Exception as error:  # of the clients below ``datasets``, which have no class in common
        what = f"{type(error).__name__}: {error}"
        raise ReadFailed(
            f"{name}: reading failed after row {number:,} ({what}). Nothing was kept. Try again."
        ) from error


def _names(dataset: Any, columns: Columns) -> dict[str, list[str]]:
    """A ClassLabel is an integer with a name; -1 stands for none, as in the test splits of GLUE."""
    from datasets import ClassLabel

    features = {name: (dataset.features or {}).get(name) for name in (columns.label, *columns.keep)}
    return {name: list(feature.names) for name, feature in features.items() if isinstance(feature, ClassLabel)}
