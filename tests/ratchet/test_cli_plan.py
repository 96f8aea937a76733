from __future__ import annotations

from ratchet.cli import main, plan
from ratchet.hooks.stage import StageFailed


def spec_in(directory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RATCHET__STORE", "file:///store")
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(directory / "work"))
    spec = directory / "mail.yaml"
    spec.write_text("data: {source: /a.csv, text: b, label: c}\ntrain: {arguments: {seed: 1}}\n")
    return str(spec)


def test_each_step_is_shown_with_its_state_and_the_reason(tmp_path, monkeypatch, capsys):
    asked = []

    def run_stage(stage, request, log):
        asked.append((stage, request))
        log("INFO read 5 rows")
        return {
            "steps": [
                {"step": "ingest", "state": "hit", "why": "hit: made on 2026-11-01"},
                {"step": "train", "state": "miss", "why": "miss: arguments.seed 0 -> 1"},
                {"step": "evaluate", "state": "unknown", "why": "unknown: runs after train"},
            ],
            "dropped": {"empty text": 1, "missing label": 1200},
        }

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "STEP      STATE    WHY",
        "ingest    hit      made on 2026-11-01",
        "train     miss     arguments.seed 0 -> 1",
        "evaluate  unknown  runs after train",
        "Of the rows, ingest dropped 1,201: missing label 1,200, empty text 1",
    ]
    [(stage, request)] = asked
    assert (stage, request.ingest.source) == ("plan", "/a.csv")
    assert (request.train["arguments"], request.train["store"]) == ({"seed": 1}, "file:///store")


def test_a_plan_that_fails_shows_what_the_stage_said(tmp_path, monkeypatch, capsys):
    def run_stage(stage, request, log):
        log("ERROR no route to host")
        raise StageFailed("plan failed (exit status 1)")

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 1
    assert capsys.readouterr().err == "ERROR no route to host\nplan failed (exit status 1)\n"


def test_a_plan_that_fails_says_why_once(tmp_path, monkeypatch, capsys):
    def run_stage(stage, request, log):
        log("INFO read 5 rows")
        log("ERROR The Hub cannot be reached.")
        raise StageFailed("plan failed (exit status 1): The Hub cannot be reached.")

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 1
    assert capsys.readouterr().err == ("INFO read 5 rows\nplan failed (exit status 1): The Hub cannot be reached.\n")
