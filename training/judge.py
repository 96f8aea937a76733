"""Read the evidence of an evaluation, apply the rules of the gate and write the verdict down."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from training.behaviour import without_examples
from training.card import facts_of, model_card
from training.contract import BadInput, JudgeRequest, JudgeResult
from training.evidence import Evidence, read_evidence
from training.forgotten import Forgotten
from training.gate import decide, unusable
from training.keys import Records, key_of
from training.lineage import making_of
from training.model import CARD
from training.report import JUDGED, UnusableReport, read_report
from training.rules import Rules
from training.store import Store, for_fsspec
from training.testset import find_texts
from training.verdict import DETAILS, PAGE, VERDICT, shortened
from training.verdict_details import verdict_details
from training.verdict_page import verdict_page

log = logging.getLogger(__name__)

FORM = 2  # of what follows from a report; another number and everything is judged again


def judge(request: JudgeRequest) -> JudgeResult:
    """
    Write ``verdicts/KEY`` with ``verdict.json``, ``details.json`` and ``verdict.html``, made of both, to the store.

    The same models, test set and rules have the verdict that was given before: a rerun asks nobody again. The
    candidate's card, ``README.md``, is written each time: licences and names, of which it tells, decide nothing.

    :raises BadInput: the rules contradict themselves, or there is no report; nothing was decided.
    """
    rules = Rules.from_dict(request.rules)
    report = load_report(request.report)
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    parts = verdict_parts(report, rules, request.barred)
    key = key_of(parts)
    place = f"verdicts/{key}"
    records = Records(store, "judge")
    found, why = records.look_up(
        key, parts, request.pipeline, lambda _found: store.is_complete(place), force=request.force
    )
    log.info("%s", why)
    if found is not None:
        verdict_again = _named_as(found["verdict"], report)
        card = _write_card(request, store, place, verdict_again)
        return JudgeResult(**{**found, "verdict": verdict_again}, card=card, key=key, hit=True, why=why)

    seed, evidence = 0, None
    try:
        if isinstance(parts["evidence"].get("candidate"), str):
            seed = seed_of(**{role: parts["evidence"][role] for role in (*JUDGED, "test_set")})
        evidence = read_evidence(report)
        verdict = decide(report, evidence, rules, request.barred, seed=seed)
    except UnusableReport as fault:
        verdict = unusable(fault)
    details = {} if verdict.candidate is None else _details(request, store, report, evidence, rules, seed)
    with store.scratch("judge-") as local:
        (local / VERDICT).write_text(verdict.to_json() + "\n")
        (local / DETAILS).write_text(json.dumps(details, indent=2, sort_keys=True, allow_nan=False) + "\n")
        (local / PAGE).write_text(verdict_page(json.loads(verdict.to_json()), details))
        with forgotten.while_writing(store):
            store.put_directory(local, place, parts, overwrite=True)
    result = {"verdict": json.loads(shortened(verdict).to_json()), "page": store.uri(f"{place}/{PAGE}")}
    if verdict.candidate is not None:  # what could not be read may be readable the next time
        records.write(key, parts, result, request.pipeline)
    card = _write_card(request, store, place, result["verdict"])
    return JudgeResult(**result, card=card, key=key, hit=False, why=why)


def _write_card(request: JudgeRequest, store: Store, place: str, verdict: dict[str, Any]) -> str | None:
    """:return: its URI; None: nothing is known of a candidate, as of a verdict by an earlier version of Ratchet."""
    try:
        details = store.read_json(f"{place}/{DETAILS}")
    except FileNotFoundError:
        return None
    if not details:
        return None
    facts = facts_of(
        store,
        request.pipeline,
        details,
        base_license=request.base_license,
        data_license=request.data_license,
    )
    return store.write_bytes(f"{place}/{CARD}", model_card(verdict, details, facts).encode())


def _details(
    request: JudgeRequest, store: Store, report: dict[str, Any], evidence: Evidence | None, rules: Rules, seed: int
) -> dict[str, Any]:
    def texts(hashes: Sequence[str]) -> dict[str, str]:
        test_set = report["test_set"]
        try:
            return find_texts(test_set["uri"], test_set.get("text_column", "text"), set(hashes)) if hashes else {}
        except (BadInput, OSError) as error:
            log.warning("The report shows no texts of the test set: %s", error)
            return {}

    read = read_report(report)
    found = verdict_details(read, evidence, rules, texts, seed)
    return {**found, "lineage": {"known": request.known, **making_of(store, read.candidate.digest)}}


def verdict_parts(report: Any, rules: Rules, barred: Mapping[str, str]) -> dict[str, Any]:
    """
    :return: what a verdict depends on: all that the report says, but for the names and places of things. Of a report
        that cannot be used it is all of the report.
    """
    try:
        evidence: Any = {role: (report[role] or {}).get("digest") for role in JUDGED}
        evidence["test_set"] = report["test_set"]["digest"]
        evidence["barred"] = barred.get(evidence["candidate"])
        evidence["found"] = _fingerprint(_without_names(report))
    except (AttributeError, KeyError, TypeError):
        evidence = {"report": _fingerprint(report)}
    return {"evidence": evidence, "rules": json.loads(rules.to_json()), "form": FORM}


def seed_of(candidate: str, champion: str | None, best: str | None, test_set: str) -> int:
    """:return: of the resamples: the same models and rows have the same intervals, whoever asks."""
    return int(_fingerprint([candidate, champion, best, test_set])[:8], 16)


def _without_names(report: Mapping[str, Any]) -> dict[str, Any]:
    """:return: the report without names and places of things, and without anybody's text: what was found, that is."""
    roles = {role: report[role] and {**report[role], "model": None} for role in (*JUDGED, "baseline")}
    placed = {"predictions": None, "membership": None, "test_set": {**report["test_set"], "uri": None}}
    return {**report, **roles, **placed, "behaviour": without_examples(report["behaviour"])}


def _fingerprint(value: Any) -> str:
    """:param value: JSON, or with numbers that JSON has not: of a damaged report."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def _named_as(verdict: dict[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """:return: the verdict with the names that the report has: several versions may have the same weights."""
    named = {role: {**verdict[role], "model": report[role]["model"]} for role in JUDGED if verdict.get(role)}
    return {**verdict, **named}


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
