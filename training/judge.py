"""Read the evidence of an evaluation, apply the rules of the gate and write the verdict down."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.contract import BadInput, JudgeRequest, JudgeResult
from training.evidence import read_evidence
from training.gate import decide, unusable
from training.keys import Records, key_of
from training.report import JUDGED, UnusableReport
from training.rules import Rules
from training.store import Store, for_fsspec
from training.verdict_page import verdict_page

log = logging.getLogger(__name__)


def judge(request: JudgeRequest) -> JudgeResult:
    """
    Write ``verdicts/KEY`` with ``verdict.json`` and ``verdict.html`` to the store.

    The same models, test set and rules have the verdict that was given before: a rerun asks nobody again.

    :raises BadInput: the rules contradict themselves, or there is no report; nothing was decided.
    """
    rules = Rules.from_dict(request.rules)
    report = load_report(request.report)
    store = Store(request.store)
    parts = verdict_parts(report, rules, request.barred)
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


def verdict_parts(report: Any, rules: Rules, barred: Mapping[str, str]) -> dict[str, Any]:
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


def load_report(uri: str) -> Any:
    """:raises BadInput: it is gone or damaged."""
    import fsspec

    try:
        with fsspec.open(for_fsspec(uri), "rt") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(
            f"The evaluation report {uri} cannot be read ({error}), so nothing is promoted. Run the evaluation again."
        ) from error
