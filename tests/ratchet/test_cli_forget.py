from __future__ import annotations

import pytest

from ratchet.cli import active, forget, main
from ratchet.cli.retrain import Airflow
from ratchet.ledger import INGESTED, Ledger
from tests.ratchet.fake_airflow import PASSWORD
from tests.ratchet.test_cli_plan import spec_in
from training.contract import BadInput
from training.store import Store
from training.text import identity_of

DONE = {
    "counts": {"rows": 1200, "snapshots": 2},
    "versions": ["models:/mail/4 @champion"],
    "unknown": [],
    "in_source": 3,
    "examples": ["/data/a.csv, row 7"],
    "near": 0,
    "near_examples": [],
    "left": ["Release 1 is old."],
}


@pytest.fixture
def asked(tmp_path, monkeypatch, url):
    """What the stage was asked; the Airflow of the embedded stack is the fake."""
    asked = []

    def run_stage(stage, request, log, env):
        asked.append(request)
        if request.objects == [str(tmp_path / "none.csv")]:
            raise BadInput("No object none.csv was ever read.")
        return DONE

    monkeypatch.setattr(forget, "run_stage", run_stage)
    monkeypatch.setattr(active, "airflow_of", lambda options: Airflow(url, "operator", PASSWORD))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.fixture
def spec(tmp_path, monkeypatch):
    return spec_in(tmp_path, monkeypatch)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(Store(str(tmp_path / "store")), "mail")
    ledger.append(INGESTED, watermark="file:///store/watermarks/1")
    return ledger


def test_what_was_done_and_what_was_not_reached_is_told_and_remembered(asked, spec, ledger, tmp_path, capsys):
    assert main(["forget", spec, "--text", "My Secret", "--object", "a.csv", "--reason", "asked for"]) == 0
    [request] = asked
    assert (request.texts, request.objects) == ([identity_of("my secret")], [str(tmp_path / "a.csv")])
    assert request.watermarks == ["file:///store/watermarks/1"]
    shown = capsys.readouterr().out
    assert shown.splitlines()[:8] == [
        "Taken out or corrected:",
        "  1,200  rows",
        "  2      snapshots",
        "Not reached:",
        "- Models that were trained or tested on it: models:/mail/4 @champion",
        "- 3 rows in the source, which are not read again:",
        "    /data/a.csv, row 7",
        "    and 2 more",
    ]
    assert "- Release 1 is old." in shown
    _, begun, ended = ledger.records()
    assert (begun["event"], begun["texts"], begun["reason"]) == ("forget", 1, "asked for")
    assert (ended["event"], ended["counts"], ended["versions"]) == ("forgotten", DONE["counts"], DONE["versions"])
    kept = [path.read_text() for path in (tmp_path / "store").rglob("*.json")]
    assert not any("ecret" in text or identity_of("my secret") in text for text in kept)


def test_a_dry_run_remembers_nothing(asked, spec, ledger, capsys):
    assert main(["forget", spec, "--text", "x", "--dry-run"]) == 0
    assert asked[0].dry_run
    assert capsys.readouterr().out.startswith("Would take out or correct:")
    assert [record["event"] for record in ledger.records()] == [INGESTED]


@pytest.mark.parametrize(("pipeline", "status"), [("mail", 1), ("other", 1), ("elsewhere", 0)])
def test_nothing_is_taken_out_under_a_run_of_a_pipeline_of_the_store(
    asked, spec, ledger, fake, tmp_path, capsys, pipeline, status
):
    Ledger(Store(str(tmp_path / "store")), "other").append(INGESTED, watermark="file:///store/watermarks/2")
    fake.active_elsewhere = [pipeline]
    assert main(["forget", spec, "--text", "x"]) == status
    assert (capsys.readouterr().err.startswith("A run is active: http")) == bool(status)
    assert len(asked) == 1 - status
    assert len(ledger.records()) == 3 - 2 * status


def test_what_the_stage_refuses_is_remembered_as_refused(asked, spec, ledger, capsys):
    assert main(["forget", spec, "--object", "none.csv"]) == 2
    assert "No object none.csv" in capsys.readouterr().err
    assert [record["event"] for record in ledger.records()] == [INGESTED, "forget", "forget-refused"]


def test_going_on_needs_no_text(asked, spec, ledger):
    assert main(["forget", spec, "--resume"]) == 0
    assert (asked[0].resume, asked[0].texts, asked[0].objects) == (True, [], [])
    assert [record["event"] for record in ledger.records()] == [INGESTED, "forgotten"]


@pytest.mark.parametrize(
    ("flags", "heading"),
    [
        ([], "Not reached:"),
        (["--dry-run"], "Not reached:"),
        (["--near"], "With them:"),
    ],
)
def test_texts_that_are_nearly_the_forgotten_ones_are_shown_by_place(
    asked, spec, ledger, monkeypatch, capsys, flags, heading
):
    monkeypatch.setitem(DONE, "near", 2)
    monkeypatch.setitem(DONE, "near_examples", ["/data/b.csv, row 3", "/data/b.csv, row 9"])
    assert main(["forget", spec, "--text", "x", *flags]) == 0
    assert asked[0].near == ("--near" in flags)
    shown = capsys.readouterr().out.splitlines()
    place = shown.index(heading)
    assert shown[place + 1 : place + 4] == [
        "- 2 texts that are nearly the forgotten ones:",
        "    /data/b.csv, row 3",
        "    /data/b.csv, row 9",
    ]
    assert any("--near takes them out" in line for line in shown) == ("--dry-run" in flags)


def test_the_sources_of_all_pipelines_of_the_store_are_looked_at(asked, spec, ledger, tmp_path):
    Ledger(Store(str(tmp_path / "store")), "other").append(INGESTED, watermark="file:///store/watermarks/2")
    assert main(["forget", spec, "--text", "x", "--dry-run"]) == 0
    assert asked[0].watermarks == ["file:///store/watermarks/1", "file:///store/watermarks/2"]


@pytest.mark.parametrize("arguments", [[], ["--near"], ["--resume", "--text", "x"], ["--resume", "--near"]])
def test_nothing_or_too_much_is_refused(asked, spec, arguments, capsys):
    assert main(["forget", spec, *arguments]) == 2
    assert "or only --resume" in capsys.readouterr().err
    assert asked == []
