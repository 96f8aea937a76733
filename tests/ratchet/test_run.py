"""``ratchet run``: what is printed and how the command exits, against a fake of Airflow's REST API."""

from __future__ import annotations

import io
import json
import os

import pytest

from ratchet.cli import main, run
from ratchet.cli.retrain import Airflow, RunError, start
from ratchet.cli.stack.settings import Settings, write_private
from tests.ratchet.fake_airflow import PASSWORD

PROGRESS = "progress: 42% | step 120/285 | epoch 1.26/3 | loss 0.4123 | elapsed 34s | left 47s | 245 samples/s"


@pytest.fixture
def command(url, airflow, monkeypatch):
    """Run ``ratchet run`` against the fake."""
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)

    def call(*arguments):
        return main(
            ["run", "sentiment", "--url", url, "--user", "operator", "--password-env", "THE_PASSWORD", *arguments]
        )

    return call


def test_promoted_exits_0_and_says_what_is_champion(fake, command, capsys):
    assert command() == 0
    told = capsys.readouterr().out
    assert "PROMOTED: sentiment version 1 is champion, the first one." in told
    assert "accuracy 0.9000 is at least 0.6000" in told
    assert "accuracy 0.9000, log_loss -" in told
    assert "/dags/sentiment/runs/manual__2026-11-21T08%3A00%3A00%2B00%3A00" in told


def test_a_run_that_had_nothing_to_do_says_why_for_each_step(fake, command, capsys):
    for step in ("ingest", "train", "evaluate", "deploy"):
        fake.results[step] = {**fake.results[step], "why": f"hit: {step} made on 2026-11-20"}
    fake.results["promote"] = {"why": "hit: version 1 is champion already", "version": "1", "hit": True}
    assert command() == 0
    told = capsys.readouterr().out
    assert "UNCHANGED: sentiment version 1" in told
    assert [line for line in told.splitlines() if "hit:" in line] == [
        "ingest    done       0:12  hit: ingest made on 2026-11-20",
        "train     done       0:12  hit: train made on 2026-11-20",
        "evaluate  done       0:12  hit: evaluate made on 2026-11-20",
        "deploy    done       0:12  hit: deploy made on 2026-11-20",
        "promote   done       0:12  hit: version 1 is champion already",
    ]


def test_what_was_found_in_the_data_is_told_and_where_all_of_it_is(fake, command, capsys):
    fake.results["ingest"] = {
        "why": "miss: first run",
        "warnings": ["the label angry is new"],
        "dropped": {"empty text": 3, "missing label": 2},
        "report": "file:///my%20store/data-reports/1a2b",
    }
    fake.links["ingest"] = {"data_report": "http://mlflow.example/report.html"}
    assert command() == 0
    told = capsys.readouterr().out
    assert "Data       http://mlflow.example/report.html" in told
    lines = [line for line in told.splitlines() if line.startswith(("ingest", "   "))]
    assert lines[:4] == [
        "ingest    done       0:12  miss: first run",
        "          warning: the label angry is new",
        "          dropped 5: empty text 3, missing label 2",
        "          data report: /my store/data-reports/1a2b/report.html",
    ]


def test_a_person_that_is_asked_is_named_and_the_command_ends_with_4(fake, command, capsys):
    fake.ask(by=["anna"], until="2026-11-25T08:00:00+00:00", url="http://airflow/required_actions")
    assert command() == 4
    told = capsys.readouterr().out
    assert "WAITS for a person: shall the candidate for sentiment become champion?" in told
    assert "anna is asked until 2026-11-25 08:00 UTC, else it is rejected" in told
    assert "answer at http://airflow/required_actions" in told
    assert "Candidate  accuracy 0.9000" in told


def test_an_override_is_passed_with_its_reason(fake, command):
    assert command("--override", "the customer waits") == 0
    assert fake.started == [("sentiment", {"override": "the customer waits"})]


def test_rejected_exits_3_with_who_and_why(fake, command, capsys):
    fake.reject("rejected: by anna: too many neutrals")
    assert command() == 3
    told = capsys.readouterr().out
    assert "REJECTED: the candidate for sentiment; the run changed neither champion nor endpoint." in told
    assert "rejected: by anna: too many neutrals" in told


def test_held_exits_3_with_the_reasons_and_the_notes(fake, command, capsys):
    fake.hold("f1_macro 0.41 is below the champion's 0.72 by more than 0.01")
    fake.results["gate"]["notes"] = ["label 'neg' has 2 test rows: its scores say little"]
    assert command() == 3
    told = capsys.readouterr().out
    assert "HELD: the candidate for sentiment" in told
    assert "f1_macro 0.41 is below" in told
    assert "  - note: label 'neg' has 2 test rows" in told


def test_a_run_that_came_too_early_exits_3_and_says_until_when(fake, command, capsys):
    fake.hold_off("run r took in data at 12:00", "2026-11-21T18:00:00+00:00")
    assert command() == 3
    told = capsys.readouterr().out
    assert "HELD OFF: it is too early for another run of sentiment. With --force" in told
    assert "no run before 2026-11-21 18:00:00 UTC: run r took in data at 12:00" in told


def test_a_past_date_is_passed_on(fake, command):
    command("--date", "2026-03-31")
    assert fake.started == [("sentiment", {"date": "2026-03-31"})]


def test_a_failed_step_exits_1_with_its_name_the_cause_and_its_last_lines(fake, command, capsys):
    fake.fail("train", "loading", "StageFailed: train failed (exit status 1): disk is full", "bye", attempts=4)
    assert command() == 1
    told = capsys.readouterr().out
    assert "Step train failed after 4 attempts: StageFailed: train failed (exit status 1): disk is full" in told
    assert "    bye" in told
    assert "FAILED: sentiment. Endpoint and champion are what they were." in told
    assert [line.split()[:3] for line in told.splitlines() if line.startswith(("train ", "gate ", "deploy "))] == [
        ["train", "failed", "0:12"],
        ["gate", "not", "run"],
        ["deploy", "not", "run"],
    ]


def test_wrong_usage_exits_2(url, capsys, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(SystemExit) as raised:
        main(["run", "sentiment", "--url", url, "--user", "me", "--password-env", "NOT_SET"])
    assert raised.value.code == 2


def test_progress_shows_per_cent_loss_and_time_left(fake, airflow):
    fake.states["train"], fake.logs["train"] = "running", ["starting", PROGRESS.replace("42%", "41%"), PROGRESS]
    started = start(airflow, "sentiment", {})
    train = next(task for task in started.tasks() if task.name == "train")
    assert run._progress(started, train, 34.0) == "train     running    0:34  42% | loss 0.4123 | left 47s"


def test_plain_output_has_no_line_that_is_written_over():
    stream = io.StringIO()
    display = run.Display(stream)
    for percent in range(5):
        display.progress(f"{percent}%")
    display.line("done")
    assert stream.getvalue() == "0%\ndone\n"


def test_a_break_stops_following_and_not_the_run(command, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "follow", interrupted)
    assert command() == 130
    assert "the run goes on" in capsys.readouterr().out


def test_a_relative_source_is_the_callers(fake, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("--source", "data/*.csv")
    command("--source", "s3://acme/tickets/*.csv")
    sources = [parameters["source"] for _, parameters in fake.started]
    assert sources == [str(tmp_path / "data" / "*.csv"), "s3://acme/tickets/*.csv"]


@pytest.mark.parametrize(
    "source", ["s3://me:hunter2/hunter2@bucket/a.csv", "data/a.csv?token=hunter2", "ftp://hunter2/a"]
)
def test_a_source_that_would_be_refused_is_sent_nowhere_and_not_repeated(fake, command, capsys, source):
    with pytest.raises(SystemExit) as raised:
        command("--source", source)
    assert raised.value.code == 2
    assert fake.started == []
    told = capsys.readouterr().err
    assert "argument --source: expected a" in told
    assert "hunter2" not in told


def test_a_run_that_never_ends_is_not_followed_for_ever(fake, command, capsys, monkeypatch):
    monkeypatch.setattr(run, "ENDED", ())
    assert command("--timeout-minutes", "0") == 1
    assert "has not ended in 0 minutes and goes on: http" in capsys.readouterr().err


@pytest.fixture
def embedded(tmp_path, url, monkeypatch):
    """The embedded stack's Airflow is the fake, and its DAGs folder holds one spec without a stub."""
    monkeypatch.setattr(
        os, "environ", {**os.environ, "RATCHET_DAGS": str(tmp_path), "RATCHET_HOME": str(tmp_path / "home")}
    )
    (tmp_path / "sentiment.yaml").write_text("data: {source: a.csv, text: b, label: c}\n")
    monkeypatch.setattr(run, "embedded_airflow", lambda user: Airflow(url, user or "operator", PASSWORD))
    monkeypatch.setattr(run, "_endpoint_url", lambda ended, spec: None)
    (tmp_path / "home" / "run").mkdir(parents=True)
    return tmp_path


def test_a_pipeline_that_is_new_gets_its_stub(fake, airflow, embedded):
    assert main(["run", "sentiment"]) == 0
    assert (embedded / "sentiment.py").exists()


def test_the_last_line_says_how_to_sign_in(embedded, capsys):
    assert main(["run", "sentiment"]) == 0
    file = embedded / "home" / "run" / "passwords.json"
    password = json.loads(file.read_text())["admin"]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Sign in    as admin, password {password}; other users: {file}"


def test_a_held_run_says_when_the_endpoint_does_not_serve_the_champion(fake, embedded, capsys, monkeypatch):
    fake.hold("f1_macro 0.41 is below the champion's")
    monkeypatch.setattr(run, "_difference", lambda spec: f"Endpoint {spec.deploy.endpoint!r} serves another.")
    assert main(["run", "sentiment"]) == 3
    told = capsys.readouterr().out
    assert "HELD: the candidate for sentiment is not promoted; the run changed neither champion nor endpoint." in told
    assert "Endpoint 'sentiment' serves another." in told


def test_a_run_of_the_embedded_stack_is_started_by_who_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "RATCHET_HOME": str(tmp_path)})
    settings = Settings.from_environment()
    settings.make_directories()
    write_private(settings.home / "ports.json", {"airflow": 1})
    for user, name in ((None, "operator"), ("viewer", "viewer")):
        assert run.embedded_airflow(user)._login == {"username": name, "password": settings.passwords[name]}
    with pytest.raises(RunError, match=r"no user 'nobody', so nothing was done; it has admin, operator"):
        run.embedded_airflow("nobody")


def test_a_spec_that_is_not_valid_starts_nothing(fake, embedded, capsys):
    (embedded / "sentiment.yaml").write_text("data: {source: a.csv, text: b, lable: c}\n")
    assert main(["run", "sentiment"]) == 2
    assert f"{embedded / 'sentiment.yaml'}:1: data.lable" in capsys.readouterr().err
    assert fake.tokens == 0


def test_without_an_embedded_stack_an_airflow_must_be_named(capsys, monkeypatch):
    monkeypatch.setattr(run, "has_stack", lambda: False)
    with pytest.raises(SystemExit) as raised:
        main(["run", "sentiment"])
    assert raised.value.code == 2
    assert "no embedded stack is installed here: name an Airflow with --url" in capsys.readouterr().err


def test_metrics_are_rounded(fake, command, capsys):
    fake.results["evaluate"] = {"why": "miss: first run", "metrics": {"accuracy": 0.7891156462585034}}
    assert command() == 0
    told = capsys.readouterr().out
    assert "accuracy 0.7891\n" in told
    assert "0.78911" not in told
