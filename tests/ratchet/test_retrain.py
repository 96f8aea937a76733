"""Starting a run through Airflow's REST API and knowing how it ended, in the package and as a file of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ratchet.cli import retrain
from ratchet.cli.retrain import Airflow, RunError, outcome, start
from tests.ratchet.fake_airflow import PASSWORD, RUN


def broken(minutes):
    """:return: an import error of the pipeline, so long after now."""
    return {
        "filename": "sentiment.py",
        "stack_trace": "sentiment.yaml:3: gate.minimun: ...",
        "timestamp": (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z"),
    }


def script(url, *arguments, password=PASSWORD):
    """Run the file alone, as a CI system would: no package, no environment."""
    environment = {"AIRFLOW_URL": url, "AIRFLOW_USER": "ci", "AIRFLOW_PASSWORD": password, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", "-S", str(Path(retrain.__file__)), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_run_is_unpaused_and_started_with_the_parameters_that_were_given(fake, airflow):
    start(airflow, "sentiment", {"force": True, "note": "new labels"})
    assert fake.unpaused == ["sentiment"]
    assert fake.started == [("sentiment", {"force": True, "note": "new labels"})]


def test_a_pipeline_that_airflow_cannot_read_shows_why_and_starts_nothing(fake, airflow):
    fake.import_errors = [broken(minutes=1)]
    with pytest.raises(RunError, match=r"sentiment\.yaml:3"):
        start(airflow, "sentiment", {})
    assert fake.started == []


def test_another_pipelines_error_does_not_stop_this_one(fake, airflow):
    fake.import_errors = [{"filename": "sub/other.py", "stack_trace": "broken"}]
    start(airflow, "sentiment", {})
    assert fake.started == [("sentiment", {})]


def test_an_unknown_pipeline_is_refused_at_once_with_the_nearest_and_the_known_ones(fake, airflow):
    told = []
    expected = r"'sentimant'; nothing was started\. Did you mean 'sentiment'\? It knows: sentiment\..* --new"
    with pytest.raises(RunError, match=expected):
        start(airflow, "sentimant", {}, tell=told.append)
    assert told == []


def test_a_pipeline_whose_file_is_new_is_waited_for_and_it_is_said(fake, airflow, monkeypatch):
    fake.known, told = set(), []
    monkeypatch.setattr(retrain.time, "sleep", lambda seconds: fake.known.add("sentiment"))
    start(airflow, "sentiment", {}, tell=told.append, is_new=True)
    assert told[0] == "Waiting up to 90 s for Airflow to read the file of sentiment ..."
    assert fake.started == [("sentiment", {})]


def test_a_new_file_that_never_appears_ends_the_wait(fake, airflow):
    with pytest.raises(RunError, match=r"'sentimant' after 0 s; nothing was started\. Did you mean 'sentiment'"):
        start(airflow, "sentimant", {}, parse_seconds=0, is_new=True)


def test_a_wrong_password_is_said_to_be_wrong(url):
    with pytest.raises(RunError, match="did not accept the user or the password"):
        Airflow(url, "operator", "wrong").get("/importErrors")


def test_a_token_that_ran_out_is_renewed(fake, airflow):
    airflow.get("/importErrors?limit=1")
    fake.token = "another"
    assert airflow.get("/importErrors?limit=1") == {"import_errors": []}


def test_an_api_that_restarts_is_waited_for_at_sign_in_as_well(fake, airflow):
    fake.outages = 3
    assert airflow.get("/importErrors?limit=1") == {"import_errors": []}
    fake.outages = 3
    assert airflow.get("/importErrors?limit=1") == {"import_errors": []}


def test_a_start_waits_for_a_sign_in_that_does_not_answer_yet(fake, airflow):
    fake.outages = 3
    assert airflow.post("/dags/sentiment/dagRuns", {"conf": {}})["dag_run_id"] == RUN


def test_a_start_that_may_have_been_carried_out_is_not_sent_twice(fake, airflow):
    airflow.get("/importErrors?limit=1")
    fake.outages = 1
    with pytest.raises(RunError, match="503"):
        airflow.post("/dags/sentiment/dagRuns", {"conf": {}})
    assert fake.started == []


def test_an_end_without_a_verdict_is_a_failure(fake, airflow):
    fake.results.pop("gate")
    assert outcome(start(airflow, "sentiment", {})).word == "failed"


def test_a_verdict_that_nobody_knows_is_a_failure(fake, airflow):
    fake.results["gate"] = {"decision": "maybe"}
    assert outcome(start(airflow, "sentiment", {})).exit_status == 1


def test_the_script_for_ci_exits_by_the_verdict(fake, url):
    done = script(url, "sentiment", "--note", "abc123")
    assert (done.returncode, done.stderr) == (0, "")
    assert fake.started == [("sentiment", {"note": "abc123"})]
    assert "sentiment: promoted" in done.stdout
    fake.hold("not good enough")
    held = script(url, "sentiment")
    assert held.returncode == 3
    assert "- not good enough" in held.stdout
    fake.fail("deploy", "the host is down")
    assert script(url, "sentiment").returncode == 1


def test_a_dag_without_a_gate_that_succeeds_is_a_success_without_a_verdict(fake, airflow):
    fake.by_hand({"deploy": {"url": "http://127.0.0.1:1"}, "greet": "hello"})
    ended = outcome(start(airflow, "sentiment", {}))
    assert (ended.word, ended.exit_status) == ("succeeded", 0)
    assert ended.reasons == ["it has no gate, so that there is no verdict"]
    assert ended.production == ""


def test_a_gate_of_any_name_holds_its_run(fake, airflow):
    verdict = {"decision": "hold", "reasons": ["too bad"], "notes": ["label 'neg' has 2 test rows"]}
    fake.by_hand({"judge": verdict}, after="skipped")
    ended = outcome(start(airflow, "sentiment", {}))
    assert (ended.word, ended.exit_status, ended.reasons) == ("held", 3, ["too bad"])
    assert ended.notes == ["label 'neg' has 2 test rows"]


def test_a_verdict_without_a_step_that_acts_on_it_succeeds_and_says_so(fake, airflow):
    fake.by_hand({"judge": {"decision": "promote", "reasons": ["good enough"]}})
    ended = outcome(start(airflow, "sentiment", {}))
    assert (ended.word, ended.exit_status) == ("succeeded", 0)
    assert ended.reasons == ["good enough", "it has no step promote, so that no champion was moved"]


@pytest.mark.parametrize(
    ("failed", "left"),
    [
        ("train", "Endpoint and champion are what they were."),
        (
            "deploy",
            "Deploy had begun: the endpoint serves what it did, or the new release; the champion is what it was.",
        ),
        (
            "promote",
            "The endpoint serves what deploy put there; promote had begun: the champion is what it was, or the "
            "candidate.",
        ),
    ],
)
def test_a_failure_says_which_steps_had_begun_to_change_production(fake, airflow, failed, left):
    fake.fail(failed, "StageFailed: disk is full")
    assert outcome(start(airflow, "sentiment", {})).production == left


def test_a_failure_after_the_promotion_says_what_was_promoted(fake, airflow):
    fake.states["tell"], fake.attempts["tell"] = "failed", 1
    production = outcome(start(airflow, "sentiment", {})).production
    assert production == "The endpoint serves what deploy put there; the champion is the candidate."


def test_the_cause_of_a_failure_is_told_once(fake, url):
    cause = "/a.csv: no usable row. Nothing was written."
    fake.fail(
        "ingest", "reading /a.csv", cause, "To repeat: ...", f"AirflowFailException: {cause}", f"BadInput: {cause}"
    )
    told = script(url, "sentiment").stdout
    assert told.count(cause) == 1
    assert "reading /a.csv\nTo repeat: ..." in told


def test_what_a_stage_said_of_its_failure_is_told_once(fake, url):
    said = "The model 'acme/base' could not be fetched."
    fake.fail("train", "step 1 of 3", said, f"StageFailed: train failed (exit status 1): {said}", attempts=4)
    told = script(url, "sentiment").stdout
    assert told.count(said) == 1
    assert "step 1 of 3" in told


def test_an_override_is_passed_with_its_reason_and_refused_without(fake, url):
    assert script(url, "sentiment", "--override", " the customer waits ").returncode == 0
    assert fake.started == [("sentiment", {"override": "the customer waits"})]
    refused = script(url, "sentiment", "--override", " ")
    assert (refused.returncode, len(fake.started)) == (2, 1)
    assert "expected a reason, which the history keeps; nothing was started" in refused.stderr


def test_the_script_for_ci_names_what_it_lacks(url):
    done = script("", "sentiment", password="")
    assert done.returncode == 2
    assert "AIRFLOW_URL, AIRFLOW_PASSWORD" in done.stderr


def test_a_token_that_is_never_accepted_is_renewed_once(fake, airflow):
    fake.refuses_every_token = True
    with pytest.raises(RunError, match="answered 401 to GET"):
        airflow.get("/importErrors?limit=1")
    assert fake.tokens == 2


def test_a_sign_in_that_fails_says_its_own_status(fake, airflow, monkeypatch):
    monkeypatch.setattr(retrain, "AWAY_SECONDS", 0)
    fake.outages = 1
    with pytest.raises(RunError, match="answered 503 to POST /auth/token"):
        airflow.get("/importErrors?limit=1")


def test_a_start_without_an_answer_says_that_a_run_may_have_been_started(fake, airflow):
    fake.drops_starts = True
    with pytest.raises(RunError, match=r"503(?s:.*)may have been started: look at http\S+/dags/sentiment/runs"):
        start(airflow, "sentiment", {})
    assert len(fake.started) == 1


def test_unpausing_is_said_because_the_schedule_runs_from_then_on(fake, airflow):
    told = []
    start(airflow, "sentiment", {}, tell=told.append)
    start(airflow, "sentiment", {}, tell=told.append)
    [text] = told
    assert text.startswith("Unpaused sentiment: from now on runs start by themselves, as its spec says.")
    assert fake.unpaused == ["sentiment"]


def test_of_a_pipeline_without_a_schedule_nothing_is_said_about_one(fake, airflow):
    fake.schedule, told = None, []
    start(airflow, "sentiment", {}, tell=told.append)
    assert told == [f"Unpaused sentiment. Pause it again at {airflow.url}/dags/sentiment"]


def test_a_run_that_has_to_wait_names_the_one_it_waits_for(fake, airflow):
    fake.paused, fake.active = False, ["scheduled__1", "manual__2"]
    told = []
    start(airflow, "sentiment", {}, tell=told.append)
    waits_for = f"{airflow.url}/dags/sentiment/runs/scheduled__1"
    assert told == [f"One run of sentiment goes at a time; this one waits for {waits_for} and 1 more"]


def test_an_import_error_from_before_is_given_time_to_be_mended(fake, airflow, monkeypatch):
    fake.import_errors = [broken(minutes=-5)]
    monkeypatch.setattr(retrain.time, "sleep", lambda seconds: fake.import_errors.clear())
    start(airflow, "sentiment", {})
    assert fake.started == [("sentiment", {})]


def test_an_import_error_that_stays_ends_the_wait(fake, airflow):
    fake.import_errors = [broken(minutes=-5)]
    with pytest.raises(RunError, match=r"sentiment\.yaml:3"):
        start(airflow, "sentiment", {}, parse_seconds=0)
    assert fake.started == []


ASKED = {"by": ["anna", "ben"], "until": "2026-11-25T08:00:00+00:00", "url": "http://airflow/required_actions"}
TOLD = "- anna or ben is asked until 2026-11-25 08:00 UTC, else it is rejected\n- answer at http://airflow/required_actions"


def test_a_run_that_waits_for_a_person_is_not_waited_for(fake, url):
    fake.ask(**ASKED)
    done = script(url, "sentiment")
    assert (done.returncode, done.stderr) == (4, "")
    assert f"sentiment: waits\n{TOLD}\n- Endpoint and champion are what they were." in done.stdout


def test_a_run_behind_one_that_waits_for_a_person_is_not_waited_for_either(fake, url):
    fake.ask(**ASKED)
    fake.behind = "scheduled__1"
    done = script(url, "sentiment")
    assert done.returncode == 4
    assert f"- the run before it waits: {url}/dags/sentiment/runs/scheduled__1\n{TOLD}" in done.stdout


def test_a_question_of_another_operator_is_waited_for_where_the_run_is_shown(fake, url):
    fake.ask()
    fake.awaits = None
    done = script(url, "sentiment")
    assert done.returncode == 4
    assert "- whoever may answer for it is asked\n- answer at http" in done.stdout


def test_a_rejected_run_is_a_held_one(fake, airflow):
    fake.reject("rejected: by anna: too many neutrals")
    ended = outcome(start(airflow, "sentiment", {}))
    assert (ended.word, ended.exit_status) == ("rejected", 3)
    assert ended.reasons == ["rejected: by anna: too many neutrals"]
