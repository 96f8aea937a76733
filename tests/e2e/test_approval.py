"""
A person's answer, on a real Airflow: who may give it, what becomes of it, and that nothing loses it.

Each test is a DAG of its own: a step that returns a verdict, the approval, and a step behind it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ratchet.cli.retrain import Airflow as Client
from ratchet.cli.retrain import Refused, Run, start, waiting
from ratchet.ledger import Ledger
from tests.e2e.airflow import Airflow, eventually
from training.store import Store

pytestmark = pytest.mark.timeout(900)  # with every core busy

PATIENCE_SECONDS = 240
DAGS = """
import os, signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, BaseNotifier, task
from ratchet.notify import TellFailure
from ratchet.operators.approve import ApproveOperator

class Dying(ApproveOperator):
    "Its worker is killed when it is about to write the first answer down."

    def execute_complete(self, context, event):
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_complete(context, event)

def pipeline(name, operator=ApproveOperator, **options):
    with DAG(name, schedule=None, is_paused_upon_creation=False) as dag:
        @task
        def gate():
            return {
                "decision": "ask", "key": f"key-of-{name}", "reasons": ["300 test rows do not tell"], "rules": [],
                "candidate": {"model": f"file:///models/{name}", "digest": f"digest-of-{name}"}, "champion": None,
            }

        @task
        def deploy(verdict):
            return verdict["decision"]

        step = operator(
            task_id="approve", verdict=gate(), approvers=["operator"], retries=2, retry_delay=timedelta(seconds=1),
            **options,
        )
        deploy(step.output)
    return dag

class Postbox(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, text="{{ ratchet.event }}: {{ ratchet.subject }}"):
        super().__init__()
        self.text = text

    def notify(self, context):
        with Path(__file__).with_name("postbox.txt").open("a") as file:
            file.write(self.text + "\\n")

EVERYTHING = [{"notifier": "approvals.Postbox", "arguments": {}, "on": ["ask", "hold", "failure"]}]

def failing(name, how, retries):
    told = {"on_failure_callback": TellFailure(name, EVERYTHING), "retry_delay": timedelta(seconds=1)}
    with DAG(name, schedule=None, is_paused_upon_creation=False, default_args=told) as dag:
        @task(retries=retries)
        def fail():
            how()

        fail()
    return dag

def raise_error():
    raise ConnectionError("the server is away")

def lose_the_worker():
    for process in (os.getppid(), os.getpid()):
        os.kill(process, signal.SIGKILL)

broken = failing("broken", raise_error, retries=1)
lost = failing("lost", lose_the_worker, retries=0)
named = pipeline("named")
rejected = pipeline("rejected", notify=EVERYTHING)
late = pipeline("late", response_timeout=timedelta(seconds=2))
killed = pipeline("killed", Dying)
"""


class World:
    """A real Airflow with the DAGs above, and its users."""

    def __init__(self, root: Path) -> None:
        dags = root / "dags"
        dags.mkdir()
        (dags / "approvals.py").write_text(DAGS)
        self.airflow = Airflow(root / "home", dags)
        self.store = Store(str(root / "home" / "store"))

    def user(self, name: str) -> Client:
        return Client(self.airflow.settings.url("airflow"), name, self.airflow.settings.passwords[name])

    def asked(self, dag: str) -> Run:
        """:return: a run that waits for a person."""
        run = start(self.user("operator"), dag, {}, is_new=True)
        assert eventually(lambda: run.awaits(run.tasks()), PATIENCE_SECONDS), self.airflow.log("scheduler")
        return run

    def answer(self, user: str, run: Run, option: str, reason: str | None = None) -> None:
        path = f"/dags/{run.pipeline}/dagRuns/{quote(run.identity)}/taskInstances/approve/-1/hitlDetails"
        self.user(user).patch(path, {"chosen_options": [option], "params_input": {"reason": reason}})

    def ended(self, run: Run) -> dict[str, str | None]:
        """:return: the state of each step, when the run has ended."""
        assert eventually(lambda: run.state() in ("success", "failed"), PATIENCE_SECONDS)
        return {task.name: task.state for task in run.tasks()}

    def note(self, run: Run) -> str:
        return str(self.airflow.ask("GET", f"/dags/{run.pipeline}/dagRuns/{quote(run.identity)}")["note"])

    def told(self, dag: str) -> list[str]:
        """:return: what was told of a pipeline."""
        box = self.airflow.settings.dags / "postbox.txt"
        return [line for line in box.read_text().splitlines() if f": {dag}: " in line] if box.exists() else []

    def records(self, dag: str) -> list[dict[str, Any]]:
        """:return: but for those of what people were told."""
        return [one for one in Ledger(self.store, dag).records() if one["event"] != "told"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("approvals"))
    made.airflow.start()
    yield made
    made.airflow.stop()


def test_only_who_is_named_may_answer_and_an_approved_run_goes_on(world):
    run = world.asked("named")
    waits = waiting(run, run.state(), run.tasks())
    assert waits is not None
    assert waits.exit_status == 4
    who, where = waits.reasons
    assert who.startswith("operator is asked until ")
    assert where.startswith(f"answer at {world.airflow.settings.url('airflow')}/dags/named/runs/")
    assert world.note(run).startswith("waits: operator may approve it until ")
    with pytest.raises(Refused, match=r"User=admin .*is not a respondent"):
        world.answer("admin", run, "Approve")
    assert run.state() == "running"
    world.answer("operator", run, "Approve", reason="the new labels are right")
    assert world.ended(run) == {"gate": "success", "approve": "success", "deploy": "success"}
    assert run.result("approve")["approved"]["who"] == "operator"
    [record] = world.records("named")
    assert (record["event"], record["who"], record["why"]) == ("approved", "operator", "the new labels are right")

    again = start(world.user("operator"), "named", {})
    assert world.ended(again) == {"gate": "success", "approve": "success", "deploy": "success"}
    assert len(world.records("named")) == 1


def test_a_rejected_run_succeeds_skips_the_rest_and_says_so(world):
    run = world.asked("rejected")
    world.answer("operator", run, "Reject", reason="too many neutrals")
    assert world.ended(run) == {"gate": "success", "approve": "success", "deploy": "skipped"}
    assert run.state() == "success"
    assert world.note(run) == "rejected: by operator: too many neutrals"
    [record] = world.records("rejected")
    assert (record["event"], record["why"]) == ("barred", "rejected: too many neutrals")
    assert world.told("rejected") == [
        "ask: rejected: make the candidate the champion?",
        "hold: rejected: the candidate is rejected",
    ]


def test_without_an_answer_by_the_deadline_it_is_rejected(world):
    run = start(world.user("operator"), "late", {}, is_new=True)
    assert world.ended(run) == {"gate": "success", "approve": "success", "deploy": "skipped"}
    assert world.note(run).startswith("rejected: nobody answered within ")
    [record] = world.records("late")
    assert (record["event"], record["who"]) == ("barred", "the deadline")


def test_an_answer_outlives_the_worker_that_was_about_to_write_it_down(world):
    run = world.asked("killed")
    world.answer("operator", run, "Approve")
    assert world.ended(run) == {"gate": "success", "approve": "success", "deploy": "success"}
    [approve] = [task for task in run.tasks() if task.name == "approve"]
    assert approve.attempt > 1
    assert run.result("approve")["approved"]["who"] == "operator"
    assert [record["event"] for record in world.records("killed")] == ["approved"]


def test_a_step_that_failed_for_good_is_told_of_and_its_retry_is_not(world):
    run = start(world.user("operator"), "broken", {}, is_new=True)
    assert world.ended(run) == {"fail": "failed"}
    assert eventually(lambda: world.told("broken"), PATIENCE_SECONDS) == ["failure: broken: fail failed"]
    [task] = run.tasks()
    assert task.attempt == 2


def test_a_step_whose_worker_is_gone_is_told_of_as_well(world):
    run = start(world.user("operator"), "lost", {}, is_new=True)
    assert world.ended(run) == {"fail": "failed"}
    told = eventually(lambda: world.told("lost"), PATIENCE_SECONDS)
    assert set(told) == {"failure: lost: fail failed"}, "at least once"
