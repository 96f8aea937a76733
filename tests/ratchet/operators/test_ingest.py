"""Ingest goes on from the watermark that the ledger names, holds itself off, and finds the snapshot of a past date."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ratchet.ledger import HELD_OFF, INGESTED, Ledger
from ratchet.operators import stage as stage_operator
from ratchet.operators.ingest import IngestOperator
from tests.ratchet.fakes import FakeRegistry, context
from training.contract import Checks, IngestRequest, Reading
from training.forgotten import Forgotten
from training.store import Store

SECRET = "pl4nted/secret+key"


class FakeIngest:
    """The ingest stage: remembers its requests and environments; answers what the test says."""

    result: dict = {}
    requests: list[IngestRequest] = []
    environments: list[dict] = []

    def __init__(self, stage, request, *, env, **options):
        assert stage == "ingest"
        self.requests.append(request)
        self.environments.append(dict(env or {}))

    def run(self, log):
        return self.result


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setattr(stage_operator, "StageProcess", FakeIngest)
    monkeypatch.setattr(FakeIngest, "requests", [])
    monkeypatch.setattr(FakeIngest, "environments", [])
    monkeypatch.setattr(FakeIngest, "result", made("1"))
    return FakeIngest


def made(number, **changes):
    return {
        "key": "k",
        "hit": False,
        "why": "miss: first run",
        "snapshot": f"file:///store/snapshots/{number}",
        "digest": number,
        "rows": {"train": 8, "validation": 1, "test": 1},
        "watermark": f"file:///store/watermarks/{number}",
        "objects": {"new": 1},
        "quarantined": None,
        "test_split": {"version": 1, "rows": 1},
        **changes,
    }


@pytest.fixture
def ledger(places):
    return Ledger(Store((places / "store").as_uri()), "intents")


def ingest(**options):
    return IngestOperator(task_id="ingest", pipeline="intents", **{"source": "/data/rows.csv", **options})


def run(run_id="run_1", run_type="manual", logical_date=None, **params):
    dag_run = SimpleNamespace(dag_id="intents", run_id=run_id, run_type=run_type, logical_date=logical_date)
    return {**context(**params), "run_id": run_id, "dag_run": dag_run}


def ago(**delta):
    return datetime.now(UTC) - timedelta(**delta)


def taken(ledger, when, number="1", run_id="earlier", **values):
    """Write what a run at that time would have written."""
    names = ("snapshot", "digest", "watermark", "rows", "objects", "quarantined", "test_split")
    record = {name: made(number)[name] for name in names} | values
    Ledger(ledger.store, "intents", lambda: when).append(INGESTED, run_id=run_id, **record)


# the watermark


def test_each_run_goes_on_from_the_watermark_of_the_last(stage, ledger):
    ingest().execute(run("run_1"))
    stage.result = made("2")
    ingest().execute(run("run_2"))
    ingest().execute(run("run_3"))
    assert [request.watermark for request in stage.requests] == [None, made("1")["watermark"], made("2")["watermark"]]
    records = ledger.records()
    assert [(record["event"], record["run_id"], record["snapshot"]) for record in records] == [
        (INGESTED, "run_1", made("1")["snapshot"]),
        (INGESTED, "run_2", made("2")["snapshot"]),
    ]
    assert records[0]["rows"] == made("1")["rows"]
    assert records[0]["objects"] == {"new": 1}
    assert records[0]["test_split"] == {"version": 1, "rows": 1}


def test_a_retry_after_the_work_was_done_adds_nothing(stage, ledger):
    for _attempt in range(3):
        ingest().execute(run())
    assert len(ledger.records()) == 1


def test_two_runs_at_once_do_no_harm(stage, ledger):
    first, second = ingest(), ingest()
    assert first.ledger.last(INGESTED) is second.ledger.last(INGESTED) is None
    first.execute(run("run_1"))
    second.execute(run("run_2"))
    assert {record["watermark"] for record in ledger.records()} == {made("1")["watermark"]}


def test_a_run_that_was_overtaken_reads_on_from_what_the_other_one_took_in(stage, ledger, monkeypatch):
    def overtaken(self, log):
        if len(self.requests) == 1:
            taken(ledger, ago(), number="2", run_id="faster")
        return made("partly" if len(self.requests) == 1 else "3")

    taken(ledger, ago(hours=1))
    monkeypatch.setattr(stage, "run", overtaken)
    returned = ingest().execute(run("slower"))
    assert [request.watermark for request in stage.requests] == [made("1")["watermark"], made("2")["watermark"]]
    assert [(record["run_id"], record["digest"]) for record in ledger.records()] == [
        ("earlier", "1"),
        ("faster", "2"),
        ("slower", "3"),
    ]
    assert returned["digest"] == "3"


def test_what_a_trigger_writes_meanwhile_makes_no_run_look_again(stage, ledger, monkeypatch):
    def watched(self, log):
        ledger.append("waiting", state="unsettled")
        return made("1")

    monkeypatch.setattr(stage, "run", watched)
    ingest().execute(run())
    assert len(stage.requests) == 1
    assert [record["event"] for record in ledger.records()] == ["waiting", INGESTED]


def test_a_run_on_other_data_reads_all_of_it_and_the_next_one_goes_on_from_before(stage, ledger):
    ingest().execute(run("run_1"))
    stage.result = made("other")
    returned = ingest(source_override="/spoilt/*.csv").execute(run("run_2"))
    assert returned["test_split"] is None
    ingest().execute(run("run_3"))
    assert [request.watermark for request in stage.requests] == [None, None, made("1")["watermark"]]
    assert ledger.records()[0]["digest"] == "1"


def test_what_the_operator_is_told_reaches_the_stage(stage):
    ingest(
        text_column="t",
        label_column="l",
        time_column="at",
        keep_columns=["region"],
        validation="/v.csv",
        test="/t.csv",
        format="arrow",
        test_percent=20,
        validation_percent=5,
        labels=["a", "b"],
        window_days=30,
        max_rows_per_label=9,
        min_rows_per_label=4,
        moved_share_percent=2.5,
        removed="keep",
        phone_region="DE",
        policies={"not_utf8": "fail"},
        bad_rows_percent=1.5,
        base_model="org/model",
        max_length=64,
        force=True,
    ).execute(run())
    [request] = stage.requests
    assert request.reading == Reading(
        source="/data/rows.csv",
        text="t",
        label="l",
        time="at",
        keep=["region"],
        validation="/v.csv",
        test="/t.csv",
        format="arrow",
        test_percent=20,
        validation_percent=5,
    )
    assert request.checks == Checks(
        labels=["a", "b"],
        window_days=30,
        max_rows_per_label=9,
        min_rows_per_label=4,
        moved_share_percent=2.5,
        removed="keep",
        bad_rows_percent=1.5,
        phone_region="DE",
        policies={"not_utf8": "fail"},
    )
    assert (request.base_model, request.max_length) == ("org/model", 64)
    assert request.force


def test_data_that_was_refused_is_named_on_the_run_and_the_watermark_moves(stage, ledger, notes):
    ingest().execute(run("run_1"))
    stage.result = made("2", snapshot=made("1")["snapshot"], quarantined="40 of 100 new rows cannot be used")
    returned = ingest().execute(run("run_2"))
    assert returned["snapshot"] == made("1")["snapshot"]
    assert notes == ["new data refused: 40 of 100 new rows cannot be used"]
    assert ledger.last(INGESTED)["watermark"] == made("2")["watermark"]


# the data report


@pytest.fixture
def reported(stage, ledger, monkeypatch):
    """A stage that writes a report, and the registry that takes it."""
    store = ledger.store
    for number in ("1", "2"):
        store.write_json(f"data-reports/{number}/report.json", {"number": number})
        store.write_bytes(f"data-reports/{number}/report.html", f"<p>{number}".encode())
    stage.result = made("1", report=store.uri("data-reports/1"))
    registry = FakeRegistry()
    monkeypatch.setattr(IngestOperator, "registry", registry)
    return registry


def test_each_report_is_kept_in_mlflow_once_and_linked_every_time(stage, ledger, reported):
    for _attempt in range(2):
        task = run()
        ingest().execute(task)
        assert task["ti"].xcoms["links"]["data_report"].endswith("/report.html")
    stage.result = made("2", report=ledger.store.uri("data-reports/2"))
    ingest().execute(run("run_2"))
    first, second = reported.kept.values()
    assert first[0]["report.html"] == "<p>1"
    assert json.loads(second[0]["report.json"]) == {"number": "2"}
    assert second[1]["ratchet.data_report"] == ledger.last(INGESTED)["report"] == ledger.store.uri("data-reports/2")
    assert second[1]["ratchet.snapshot"] == "2"
    assert all(name.startswith("ratchet/intents/data/") for name in reported.kept)


def test_a_report_that_mlflow_did_not_take_is_kept_by_the_next_run(stage, ledger, reported, capsys):
    reported.away, task = True, run("run_1")
    assert ingest().execute(task)["report"]
    assert "links" not in task["ti"].xcoms
    assert "the next run tries again" in capsys.readouterr().out
    assert ledger.last(INGESTED)["run_id"] == "run_1"
    reported.away = False
    ingest().execute(run("run_2"))
    assert len(reported.kept) == 1


def test_no_report_goes_to_mlflow_while_texts_are_taken_out_of_the_store(stage, ledger, reported):
    keep, marks = reported.keep_files, []
    reported.keep_files = lambda *told: (marks.append(len(ledger.store.list("writing"))), keep(*told))[1]
    Forgotten(texts=frozenset({"0" * 32}), unfinished=True).write(ledger.store)
    assert ingest().execute(run("run_1"))["report"]
    assert not reported.kept
    Forgotten(texts=frozenset({"0" * 32})).write(ledger.store)
    ingest().execute(run("run_2"))
    assert len(reported.kept) == 1
    assert marks == [1], "whoever forgets meanwhile waits for it"


def test_without_a_connection_to_mlflow_the_report_is_in_the_store_alone(stage, ledger, capsys):
    ledger.store.write_json("data-reports/1/report.json", {})
    ledger.store.write_bytes("data-reports/1/report.html", b"")
    stage.result = made("1", report=ledger.store.uri("data-reports/1"))
    for conn_id in ("nowhere", None):
        task = run()
        ingest(mlflow_conn_id=conn_id).execute(task)
        assert "links" not in task["ti"].xcoms
    assert "'nowhere' does not exist" in capsys.readouterr().out


def test_what_the_checks_found_is_on_the_run_in_brief(stage, notes):
    stage.result = made("1", warnings=["the label angry is new " * 40, "pos moved"])
    ingest().execute(run())
    assert notes[0].startswith("data: the label angry is new")
    assert notes[0].endswith(r"\[...\] and 1 more")
    assert len(notes[0]) < 330


def test_a_run_for_a_past_date_links_the_report_of_then(stage, ledger, reported):
    ledger.store.write_json("snapshots/1/manifest.json", {})
    report = ledger.store.uri("data-reports/1")
    taken(ledger, ago(days=9), snapshot=ledger.store.uri("snapshots/1"), report=report)
    assert ingest(date="2999-01-01").execute(run())["report"] == report
    assert len(reported.kept) == 1


@pytest.mark.parametrize("report", ["file:///elsewhere/data-reports/1", None])
def test_a_report_that_is_gone_or_in_another_store_fails_no_run(stage, ledger, reported, capsys, report):
    gone = report or ledger.store.uri("data-reports/3")
    stage.result, task = made("1", report=gone), run()
    assert ingest().execute(task)["report"] == gone
    taken(ledger, ago(days=9), snapshot=ledger.store.uri("snapshots/1"), report=gone)
    ledger.store.write_json("snapshots/1/manifest.json", {})
    assert ingest(date="2999-01-01").execute(run())["report"] == gone
    assert reported.kept == {}
    assert "links" not in task["ti"].xcoms
    assert capsys.readouterr().out.count("cannot be read") == 2


# cooldown


def test_a_run_that_comes_too_early_is_skipped_and_says_until_when(stage, ledger, notes):
    taken(ledger, ago(hours=1), run_id="run_1")
    task = run("run_2", run_type="scheduled")
    with pytest.raises(AirflowSkipException, match=r"held off until .* run_1 took in data .* 6 hours .* force"):
        ingest(cooldown=timedelta(hours=6)).execute(task)
    assert stage.requests == []
    held = ledger.last(HELD_OFF)
    assert held["run_id"] == "run_2"
    assert datetime.fromisoformat(held["until"]) - datetime.now(UTC) == pytest.approx(
        timedelta(hours=5), abs=timedelta(minutes=1)
    )
    assert notes[0].startswith("held off until ")
    assert task["ti"].xcoms[HELD_OFF] == {"reason": held["reason"], "until": held["until"]}


@pytest.mark.parametrize("run_type", ["manual", "scheduled", "asset_triggered", "backfill"])
def test_every_kind_of_run_is_held_off(stage, ledger, run_type):
    taken(ledger, ago(minutes=1))
    with pytest.raises(AirflowSkipException):
        ingest(cooldown=timedelta(hours=1)).execute(run("run_2", run_type, datetime.now(UTC)))


def test_a_forced_run_and_one_after_the_time_are_not_held_off(stage, ledger):
    taken(ledger, ago(hours=3))
    ingest(cooldown=timedelta(hours=2)).execute(run())
    ingest(cooldown=timedelta(hours=6), force="True").execute(run())
    ingest(cooldown=None).execute(run())
    assert len(stage.requests) == 3
    assert ledger.records(HELD_OFF) == []


def test_a_retry_is_not_held_off_by_its_own_first_attempt(stage, ledger):
    for _attempt in range(2):
        ingest(cooldown=timedelta(hours=6)).execute(run("run_1"))
    assert len(stage.requests) == 2


def test_mended_data_need_not_wait_for_the_run_that_refused_it(stage, ledger):
    taken(ledger, ago(hours=5))
    taken(ledger, ago(minutes=1), number="2", quarantined="half of it cannot be used")
    ingest(cooldown=timedelta(hours=4)).execute(run())
    assert len(stage.requests) == 1


# past dates


@pytest.fixture
def history(ledger):
    for day, number in ((1, "1"), (10, "2"), (20, "3")):
        store = ledger.store
        store.write_json(f"snapshots/{number}/manifest.json", {})
        taken(ledger, datetime(2026, 3, day, 8, tzinfo=UTC), number, snapshot=store.uri(f"snapshots/{number}"))
    return ledger


@pytest.mark.parametrize(
    ("date", "digest"),
    [("2026-03-01", "1"), ("2026-03-09", "1"), ("2026-03-10", "2"), ("2026-03-20T07:59", "2"), ("2026-12-31", "3")],
)
def test_a_run_for_a_past_date_uses_the_newest_snapshot_of_that_day_or_before(stage, history, date, digest):
    returned = ingest(date=date).execute(run())
    assert (returned["digest"], returned["hit"], returned["rows"]) == (digest, True, made("1")["rows"])
    assert returned["test_split"] == made("1")["test_split"]
    assert returned["snapshot"].endswith(f"snapshots/{digest}")
    assert stage.requests == []
    assert len(history.records()) == 3


def test_a_backfill_uses_the_snapshot_of_its_logical_date(stage, history):
    returned = ingest().execute(run(run_type="backfill", logical_date=datetime(2026, 3, 15, tzinfo=UTC)))
    assert returned["digest"] == "2"
    assert stage.requests == []


def test_a_date_before_the_first_snapshot_fails_and_names_the_first(stage, history):
    with pytest.raises(AirflowFailException, match=r"2026-02-28 .* the first one was taken at 2026-03-01 08:00 UTC"):
        ingest(date="2026-02-28").execute(run())


def test_a_date_without_any_snapshot_fails(stage, ledger):
    with pytest.raises(AirflowFailException, match="none was ever taken"):
        ingest(date="2026-02-28").execute(run())


def test_a_snapshot_that_is_gone_is_not_trained_on(stage, ledger):
    taken(ledger, ago(days=1), snapshot=ledger.store.uri("snapshots/1"))
    with pytest.raises(AirflowFailException, match="gone or unfinished"):
        ingest(date="2999-01-01").execute(run())


@pytest.mark.parametrize("date", ["yesterday", "2026-13-01", "31.3.2026"])
def test_a_date_that_is_none_is_refused(stage, date):
    with pytest.raises(AirflowFailException, match="is no date such as 2026-03-31"):
        ingest(date=date).execute(run())


def test_a_past_date_and_other_data_exclude_each_other(stage, history):
    with pytest.raises(AirflowFailException, match="Leave out one"):
        ingest(date="2026-03-10", source_override="/other.csv").execute(run())


@pytest.mark.parametrize("date", [None, "", "None"])
def test_no_date_is_no_date(stage, date):
    ingest(date=date).execute(run())
    assert len(stage.requests) == 1


# connections


def test_a_bucket_is_opened_with_keys_in_the_stages_environment_alone(stage, ledger, monkeypatch, capsys):
    extra = {"region_name": "eu-north-1", "endpoint_url": "http://127.0.0.1:8333"}
    connection = {"conn_type": "aws", "login": "AKIDEXAMPLE", "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(connection))
    operator = ingest(source="s3://films/*.jsonl", source_conn_id="bucket")
    returned = operator.execute(run())
    assert stage.environments == [
        {
            "RATCHET_SOURCE_AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "RATCHET_SOURCE_AWS_SECRET_ACCESS_KEY": SECRET,
            "RATCHET_SOURCE_AWS_DEFAULT_REGION": "eu-north-1",
            "RATCHET_SOURCE_AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
        }
    ]
    rendered = {name: getattr(operator, name) for name in operator.template_fields}
    told = [str(returned), str(rendered), str(ledger.records()), stage.requests[0].to_json(), capsys.readouterr().out]
    assert SECRET not in "".join(told)


def test_a_query_goes_to_the_connections_database_and_its_address_to_nobody_else(stage, ledger, monkeypatch, capsys):
    connection = {
        "conn_type": "postgres",
        "host": "db.example",
        "login": "reader",
        "password": SECRET,
        "schema": "mail",
        "port": 5433,
        "extra": {"sslmode": "require"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    operator = ingest(source=None, query="select * from mail", source_conn_id="warehouse")
    returned = operator.execute(run())
    [request] = stage.requests
    assert (request.reading.source, request.reading.query) == ("sql://warehouse", "select * from mail")
    assert stage.environments == [
        {"RATCHET_SQL_URI": "postgresql://reader:pl4nted%2Fsecret%2Bkey@db.example:5433/mail?sslmode=require"}
    ]
    told = "".join([str(returned), str(ledger.records()), request.to_json(), capsys.readouterr().out])
    assert SECRET not in told
    assert "pl4nted" not in told


def test_a_connection_that_does_not_exist_or_fit_is_named(stage, monkeypatch):
    with pytest.raises(AirflowFailException, match=r"'nowhere' of s3://films/a\.csv does not exist.*CONN_NOWHERE"):
        ingest(source="s3://films/a.csv", source_conn_id="nowhere").execute(run())
    monkeypatch.setenv("AIRFLOW_CONN_WEB", json.dumps({"conn_type": "http", "password": SECRET}))
    with pytest.raises(AirflowFailException, match="'web' is of type 'http': an s3:// source needs one of type 'aws'"):
        ingest(source="s3://films/a.csv", source_conn_id="web").execute(run())
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps({"conn_type": "aws", "extra": {"role_arn": "arn:x"}}))
    with pytest.raises(AirflowFailException, match="role_arn is not supported"):
        ingest(source="s3://films/a.csv", source_conn_id="bucket").execute(run())
    with pytest.raises(AirflowFailException, match="a query needs one of a database"):
        ingest(source=None, query="select 1", source_conn_id="bucket").execute(run())
    assert stage.requests == []


def test_a_step_without_a_source_is_refused(stage):
    with pytest.raises(AirflowFailException, match="give source, or query and source_conn_id"):
        ingest(source=None).execute(run())
