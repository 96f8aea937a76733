"""What every step does around its stage."""

from __future__ import annotations

import re

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet.hooks.stage import StageFailed
from ratchet.operators import stage as stage_operator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.stage import as_bool
from tests.ratchet.fakes import context
from training.contract import BadInput


class FakeProcess:
    """Prints two lines and ends as the test says."""

    outcome: object = {"snapshot": "file:///s", "watermark": "file:///w", "why": "miss: first run"}
    seen: list = []

    def __init__(self, stage, request, **options):
        self.seen.append((stage, request))

    def run(self, log):
        log("WARNING 3 rows dropped")
        log("progress without a level")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def stop(self):
        self.seen.append("stopped")


@pytest.fixture
def process(monkeypatch):
    monkeypatch.setattr(stage_operator, "StageProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "seen", [])
    return FakeProcess


def ingest(**options):
    return IngestOperator(task_id="ingest", source="/data/rows.csv", pipeline="intents", **options)


def test_the_stages_lines_keep_their_level_in_the_task_log(process, capsys):
    ingest().execute(context())
    log = capsys.readouterr().out
    assert re.search(r"warning.*3 rows dropped", log)
    assert re.search(r"info.*progress without a level", log)
    assert re.search(r"info.*ingest: miss: first run", log)


def test_bad_input_is_not_retried_and_bad_luck_is(process, monkeypatch):
    monkeypatch.setattr(process, "outcome", BadInput("rows.csv, row 3: no label"))
    with pytest.raises(AirflowFailException, match="row 3"):
        ingest().execute(context())
    monkeypatch.setattr(process, "outcome", StageFailed("disk full"))
    with pytest.raises(StageFailed, match="disk full"):
        ingest().execute(context())


def test_killing_the_task_stops_the_stage(process):
    operator = ingest()
    operator.on_kill()
    operator.execute(context())
    operator.on_kill()
    assert process.seen[-1] == "stopped"


def test_other_data_for_one_run_replaces_the_source(process):
    ingest(source_override="/other.csv").execute(context())
    ingest(source_override="").execute(context())
    ingest(source_override=None).execute(context())
    sources = [request.reading.source for _, request in process.seen]
    assert sources == ["/other.csv", "/data/rows.csv", "/data/rows.csv"]


@pytest.mark.parametrize(
    ("rendered", "meant"), [("True", True), ("False", False), ("", False), (True, True), ("None", False)]
)
def test_a_rendered_false_is_false(process, rendered, meant):
    ingest(force=rendered).execute(context())
    assert process.seen[0][1].force is meant


@pytest.mark.parametrize("location", ["rows.csv", "s3://key:planted@bucket/rows.csv", "ftp://host/rows.csv"])
def test_a_location_that_nobody_should_read_from_is_refused_before_the_stage_starts(process, location):
    with pytest.raises(AirflowFailException, match="No snapshot was taken"):
        ingest(source_override=location).execute(context())
    assert process.seen == []


def test_a_flag_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(AirflowFailException, match="maybe"):
        as_bool("maybe")
