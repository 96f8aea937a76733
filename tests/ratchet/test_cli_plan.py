from __future__ import annotations

from pathlib import Path

from ratchet.cli import main, plan
from ratchet.hooks import stage as hook
from ratchet.hooks.stage import StageFailed
from ratchet.ledger import INGESTED, Ledger
from training.store import Store


def spec_in(directory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RATCHET__STORE", (directory / "store").as_uri())
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(directory / "work"))
    spec = directory / "mail.yaml"
    spec.write_text("data: {source: /a.csv, text: b, label: c}\ntrain: {arguments: {seed: 1}}\n")
    return str(spec)


def test_each_step_is_shown_with_its_state_and_the_reason(tmp_path, monkeypatch, capsys):
    asked = []

    def run_stage(stage, request, log, reads):
        asked.append((stage, request))
        log("INFO read 5 rows")
        return {
            "steps": [
                {"step": "ingest", "state": "hit", "why": "hit: made on 2026-11-01"},
                {"step": "train", "state": "miss", "why": "miss: arguments.seed 0 -> 1"},
                {"step": "evaluate", "state": "unknown", "why": "unknown: runs after train"},
            ],
            "dropped": {"empty text": 1, "missing label": 1200},
            "warnings": ["the label angry is new"],
        }

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "STEP      STATE    WHY",
        "ingest    hit      made on 2026-11-01",
        "train     miss     arguments.seed 0 -> 1",
        "evaluate  unknown  runs after train",
        "Of the rows, ingest dropped 1,201: missing label 1,200, empty text 1",
        "Warning: the label angry is new",
    ]
    [(stage, request)] = asked
    assert (stage, request.ingest.reading.source, request.ingest.watermark) == ("plan", "/a.csv", None)
    assert (request.train["arguments"], request.train["store"]) == ({"seed": 1}, (tmp_path / "store").as_uri())


def test_nothing_of_the_data_does_anything_to_the_terminal(tmp_path, monkeypatch, capsys):
    def run_stage(stage, request, log, reads):
        return {"steps": [], "dropped": {}, "warnings": ["the label \x1b[31mred\u202e is new"]}

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 0
    assert "Warning: the label [U+001B][31mred[U+202E] is new" in capsys.readouterr().out


def test_a_plan_goes_on_from_where_the_next_run_would(tmp_path, monkeypatch, capsys):
    spec, asked = spec_in(tmp_path, monkeypatch), []
    last = {"watermark": "file:///store/watermarks/1", "report": "s3://store/data-reports/1"}
    Ledger(Store(str(tmp_path / "store")), "mail").append(INGESTED, **last)

    def run_stage(stage, request, log, reads):
        asked.append(request.ingest.watermark)
        return {"steps": [], "dropped": {}, "warnings": []}

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec]) == 0
    assert asked == ["file:///store/watermarks/1"]
    assert "s3://store/data-reports/1/report.html" in capsys.readouterr().out


def test_a_plan_says_until_when_a_run_would_be_held_off(tmp_path, monkeypatch, capsys):
    spec = spec_in(tmp_path, monkeypatch)
    with Path(spec).open("a") as file:
        file.write("trigger: {new_data: {cooldown_hours: 6}}\n")
    monkeypatch.setattr(plan, "run_stage", lambda *_given, **_more: {"steps": [], "dropped": {}, "warnings": []})
    ledger = Ledger(Store(str(tmp_path / "store")), "mail")
    for quarantined in (None, "too many bad rows"):  # what was refused took nothing in
        ledger.append(INGESTED, run_id="first" if quarantined is None else "second", quarantined=quarantined)
    assert main(["plan", spec]) == 0
    assert "held off until" in (told := capsys.readouterr().out)
    assert "run first took in data at" in told
    assert "6 hours must lie between two" in told


def test_a_plan_opens_the_source_with_its_connection(tmp_path, monkeypatch, capsys):
    spec, given = spec_in(tmp_path, monkeypatch), []
    Path(spec).write_text("data: {source: s3://films/a.csv, connection: bucket, text: b, label: c}\n")
    assert main(["plan", spec]) == 2
    assert "AIRFLOW_CONN_BUCKET" in capsys.readouterr().err

    def run_stage(stage, request, *, env, **options):
        given.append(env)
        return {"steps": [], "dropped": {}, "warnings": []}

    monkeypatch.setattr(hook, "run_stage", run_stage)
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", '{"conn_type": "aws", "login": "a", "password": "pl4nted"}')
    assert main(["plan", spec]) == 0
    [env] = given
    assert env["RATCHET_SOURCE_AWS_SECRET_ACCESS_KEY"] == "pl4nted"


def test_a_plan_that_fails_shows_what_the_stage_said(tmp_path, monkeypatch, capsys):
    def run_stage(stage, request, log, reads):
        log("ERROR no route to host")
        raise StageFailed("plan failed (exit status 1)")

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 1
    assert capsys.readouterr().err == "ERROR no route to host\nplan failed (exit status 1)\n"


def test_a_plan_that_fails_says_why_once(tmp_path, monkeypatch, capsys):
    def run_stage(stage, request, log, reads):
        log("INFO read 5 rows")
        log("ERROR The Hub cannot be reached.")
        raise StageFailed("plan failed (exit status 1): The Hub cannot be reached.")

    monkeypatch.setattr(plan, "run_stage", run_stage)
    assert main(["plan", spec_in(tmp_path, monkeypatch)]) == 1
    assert capsys.readouterr().err == ("INFO read 5 rows\nplan failed (exit status 1): The Hub cannot be reached.\n")
