"""Read the evidence of an evaluation, apply the rules of the gate and write the verdict down."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, JudgeRequest, JudgeResult
from training.gate import Evidence, decide, unusable
from training.keys import Records, key_of
from training.report import JUDGED, UnusableReport
from training.rules import Rules
from training.store import Store, for_fsspec
from training.verdict_page import verdict_page

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

log = logging.getLogger(__name__)

SMALLEST_SCORE = 2.0**-52  # what scikit-learn's log_loss takes a score of 0 for


def judge(request: JudgeRequest) -> JudgeResult:
    """
    Write ``verdicts/KEY`` with ``verdict.json`` and ``verdict.html`` to the store.

    The same models, test set and rules have the verdict that was given before: a rerun asks nobody again.

    :raises BadInput: the rules contradict themselves, or there is no report; nothing was decided.
    """
    rules = Rules.from_dict(request.rules)
    report = _read_report(request.report)
    store = Store(request.store)
    parts = _parts(report, rules, request.barred)
    key = key_of(parts)
    place = f"verdicts/{key}"
    records = Records(store, "judge")
    found, why = records.look_up(
        key, parts, request.pipeline, lambda _found: store.is_complete(place), force=request.force
    )
    log.info("%s", why)
    if found is not None:
        return JudgeResult(**found, key=key, hit=True, why=why)

    try:
        verdict = decide(report, read_evidence(report), rules, request.barred, seed=int(key[:8], 16))
    except UnusableReport as fault:
        verdict = unusable(fault)
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch)
        (local / "verdict.json").write_text(verdict.to_json() + "\n")
        (local / "verdict.html").write_text(verdict_page(report, verdict))
        store.put_directory(local, place, parts, overwrite=True)
    result = {"verdict": json.loads(verdict.to_json()), "page": store.uri(f"{place}/verdict.html")}
    if verdict.candidate is not None:  # what could not be read may be readable the next time
        records.write(key, parts, result, request.pipeline)
    return JudgeResult(**result, key=key, hit=False, why=why)


def _parts(report: Any, rules: Rules, barred: Mapping[str, str]) -> dict[str, Any]:
    """:return: what a verdict depends on. Of a report that cannot be used it is all of the report."""
    try:
        evidence: Any = {role: (report[role] or {}).get("digest") for role in JUDGED}
        evidence["test_set"] = report["test_set"]["digest"]
        evidence["barred"] = barred.get(evidence["candidate"])
        evidence["slices"] = report["slices"]
        asked = (report["behaviour"] or {"tests": []})["tests"]
        evidence["behaviour"] = [[test[part] for part in ("name", "description", "cases", "pass")] for test in asked]
    except (AttributeError, KeyError, TypeError):
        evidence = key_of({"report": repr(report)})
    return {"evidence": evidence, "rules": json.loads(rules.to_json())}


def _read_report(uri: str) -> Any:
    import fsspec

    try:
        with fsspec.open(for_fsspec(uri), "rt") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"The evaluation report {uri} cannot be read ({error}), so nothing is promoted. Run the evaluation again."
        ) from error


def read_evidence(report: Mapping[str, Any]) -> Evidence | None:
    """
    :return: what each model said to each test row; None: the report names no answers.
    :raises UnusableReport: the answers are gone or damaged, or the models answered different rows.
    """
    try:
        labels = list(report["test_set"]["labels"])
        kept = {role: report["predictions"][role] for role in JUDGED if report["predictions"].get(role)}
    except (AttributeError, KeyError, TypeError):
        return None
    tables = {role: _read_table(uri) for role, uri in kept.items()}
    if "candidate" not in tables:
        return None
    rows = tables["candidate"].select(["text_sha256", "label"])
    for role, table in tables.items():
        if not table.select(["text_sha256", "label"]).equals(rows):
            raise UnusableReport(f"candidate and {role} were not scored on the same rows in the same order.")
    index = {label: i for i, label in enumerate(labels)}
    truth = _indices(rows.column("label"), index)
    return Evidence(
        truth=truth,
        predicted={role: _indices(table.column("prediction"), index) for role, table in tables.items()},
        losses={role: _losses(table, truth, index) for role, table in tables.items()},
        slices=_slices(report["membership"], rows) if report.get("membership") else {},
    )


def _read_table(uri: str) -> pyarrow.Table:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(for_fsspec(uri), "rb") as file:
            return pq.read_table(file)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise UnusableReport(f"the kept answers {uri} cannot be read ({error}); run the evaluation again.") from error


def _slices(uri: str, rows: pyarrow.Table) -> dict[str, np.ndarray]:
    table = _read_table(uri)
    if not table.column("text_sha256").equals(rows.column("text_sha256")):
        raise UnusableReport("the slices are not those of the test rows.")
    names = [name for name in table.column_names if name != "text_sha256"]
    return {name: table.column(name).to_numpy() for name in names}


def _indices(column: pyarrow.ChunkedArray, index: Mapping[str, int]) -> np.ndarray:
    import numpy as np

    encoded = column.combine_chunks().dictionary_encode()
    try:
        known = np.array([index[label] for label in encoded.dictionary.to_pylist()], dtype=np.int64)
    except KeyError as error:
        raise UnusableReport(f"the kept answers have a label {error} that the report does not know.") from None
    return known[encoded.indices.to_numpy()]


def _losses(table: pyarrow.Table, truth: np.ndarray, index: Mapping[str, int]) -> np.ndarray:
    """:return: (n_rows,), minus the logarithm of the true label's score; a label that the model does not know has 0."""
    import numpy as np

    own = json.loads(table.schema.metadata[b"labels"])
    scores = table.column("scores").combine_chunks().flatten().to_numpy().reshape(-1, len(own))
    place = np.full(len(index), -1)
    place[[index[label] for label in own]] = np.arange(len(own))
    asked = place[truth]
    of_truth = np.where(asked >= 0, scores[np.arange(len(truth)), asked], 0.0)
    return -np.log(np.clip(of_truth, SMALLEST_SCORE, 1 - SMALLEST_SCORE))
