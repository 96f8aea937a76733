"""Tell which rows of a test set joined since a registered model was judged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from training.contract import BadInput, Tracking
from training.store import Store
from training.tags import REPORT_TAG
from training.testset import TestSet
from training.text import text_hash

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)


def new_rows(store: Store, model: str, tracking: Tracking | None, test_set: TestSet) -> np.ndarray | None:
    """:return: (n_rows,), whether the report of ``model`` does not know the text; None: nobody can tell."""
    import numpy as np

    report = _report_of(model, tracking)
    if report is None:
        return None
    try:
        kept = store.read_json(store.key(report))["predictions"]["candidate"]
        known = _texts(store, store.key(kept)) if kept else None
    except (OSError, ValueError, KeyError, TypeError, BadInput) as error:
        log.warning(
            "%s: the report of %s cannot be read (%s), so nobody knows which rows are new.", report, model, error
        )
        return None
    if known is None:
        return None
    return np.array([text_hash(text) not in known for text in test_set.texts], bool)


def _report_of(model: str, tracking: Tracking | None) -> str | None:
    if tracking is None or not model.startswith("models:/"):
        return None
    from training.patience import connect, patiently

    name, _, version = model.removeprefix("models:/").rpartition("/")
    return patiently(lambda: connect(tracking).get_model_version(name, version).tags.get(REPORT_TAG))


def _texts(store: Store, key: str) -> set[str]:
    import pyarrow.parquet as pq

    with store.open(key) as file:
        return set(pq.read_table(file, columns=["text_sha256"])["text_sha256"].to_pylist())
