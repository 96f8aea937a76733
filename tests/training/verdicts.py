"""Verdicts with what their pages are made of, of reports that add up."""

from __future__ import annotations

import json

from tests.reports import answers
from training.gate import decide
from training.report import read_report
from training.rules import Rules
from training.verdict_details import verdict_details
from training.verdict_page import verdict_page

LINEAGE = {"known": {"pipeline": "films", "the champion's endpoint": "films-live"}}


def no_texts(_hashes):
    return {}


def judged(evidence, kept=None, texts=no_texts, **rules):
    """:return: verdict and details as they are written down."""
    rules = Rules(**rules)
    kept = kept or answers(evidence)
    verdict = json.loads(decide(evidence, kept, rules).to_json())
    if verdict["candidate"] is None:
        return verdict, {}
    details = {**verdict_details(read_report(evidence), kept, rules, texts, 0), "lineage": LINEAGE}
    return verdict, json.loads(json.dumps(details, sort_keys=True, allow_nan=False))


def page_of(evidence, kept=None, texts=no_texts, **rules):
    return verdict_page(*judged(evidence, kept, texts, **rules))
