"""The steps together: real stages, a real MLflow server and a real endpoint, run by Airflow in one process."""

from __future__ import annotations

import json
import os
import random
import runpy
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from ratchet.cli import active, main
from ratchet.cli.retrain import Airflow
from ratchet.stub import write_stub
from tests.ratchet.fake_airflow import PASSWORD
from tests.servers import ROOT, endpoint_host, mlflow_server, training_python
from training.text import split_of

# What Airflow runs in this process warns about its own dependencies.
pytestmark = pytest.mark.filterwarnings("default")

TOKEN = "a-control-token"
TRAINING = {"learning_rate": 0.003, "num_train_epochs": 4, "per_device_train_batch_size": 16}  # for a tiny BERT
GOOD = ("good", "great", "fine", "money", "film", "book")
BAD = ("bad", "awful", "lost", "card", "was", "not")


def sentences(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts that a very small model can tell apart, or cannot where labels are flipped."""
    draw = random.Random(seed)
    made = {}
    while len(made) < rows:
        label, words = draw.choice((("pos", GOOD), ("neg", BAD)))
        text = " ".join(draw.choices((*words, "the", "a", "is", "my", "it"), k=8))
        made[text] = label
    return sorted(made.items())


def shuffled_training_labels(rows):
    """Annotators who guess, everywhere but in the test split."""
    draw = random.Random(7)
    return [(text, label if split_of(text, 15, 10) == "test" else draw.choice(("pos", "neg"))) for text, label in rows]


def parquet(path: Path, rows) -> Path:
    write_rows(path.with_suffix(".csv"), rows)
    code = (
        "import sys, pyarrow.csv as csv, pyarrow.parquet as parquet\n"
        "parquet.write_table(csv.read_csv(sys.argv[1]), sys.argv[2])"
    )
    subprocess.run([training_python(), "-c", code, str(path.with_suffix(".csv")), str(path)], check=True)
    return path


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("utterance,intent\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Servers, an Airflow database and a base model that the module's pipelines share."""
    root = tmp_path_factory.mktemp("world")
    base = root / "base-model"
    subprocess.run(
        [
            training_python(),
            "-W",
            "ignore",
            "-c",
            f"from pathlib import Path; from tests.tiny import tiny_checkpoint; tiny_checkpoint(Path({str(base)!r}))",
        ],
        check=True,
        cwd=ROOT,
    )
    dags = Path(os.environ["AIRFLOW_HOME"]) / "dags"  # Airflow took this folder when it was imported
    dags.mkdir()
    with mlflow_server(root / "mlflow") as mlflow, endpoint_host(root / "endpoints", TOKEN) as port:
        values = {
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "http", "host": mlflow}),
            "AIRFLOW_CONN_RATCHET_ENDPOINTS": json.dumps(
                {"conn_type": "http", "host": "127.0.0.1", "port": port, "password": TOKEN}
            ),
            "AIRFLOW__RATCHET__TRAINING_PYTHON": training_python(),
            "AIRFLOW__RATCHET__STORE": (root / "store").as_uri(),
            "AIRFLOW__RATCHET__WORK": str(root / "work"),
        }
        before = dict(os.environ)
        os.environ.update(values)
        try:
            from airflow.utils.db import initdb

            initdb()
            yield World(root, dags, mlflow)
        finally:
            os.environ.clear()
            os.environ.update(before)


class World:
    """What the tests look at from outside."""

    def __init__(self, root: Path, dags: Path, mlflow: str) -> None:
        self.root, self.dags, self.mlflow = root, dags, mlflow

    def pipeline(self, name: str, rows: list[tuple[str, str]], approval: str = "never"):
        """Write rows, spec and stub. :return: the DAG as Airflow loads it."""
        write_rows(self.root / "data" / name / "rows.csv", rows)
        (self.dags / f"{name}.yaml").write_text(
            f"data: {{source: {self.root}/data/{name}/*.csv, text: utterance, label: intent}}\n"
            f"train: {{base_model: {self.root}/base-model, arguments: {TRAINING}}}\n"
            f"gate: {{minimum: {{accuracy: 0.7}}, no_worse_by: 0.1, approval: {approval}}}\n"  # there are 40 test rows
        )
        write_stub(self.dags / f"{name}.yaml")
        dag = runpy.run_path(str(self.dags / f"{name}.py"))["dag"]
        for task in dag.tasks:
            task.retry_delay = timedelta(seconds=0.1)
        return dag

    def example(self, name: str):
        return self.load(ROOT / "plugins" / "ratchet" / "example_dags" / f"{name}.py")

    def load(self, source: Path):
        """:return: the DAG of a file, from where Airflow finds it."""
        copy = self.dags / source.name
        copy.write_text(source.read_text())
        return runpy.run_path(str(copy))["dag"]

    def run(self, dag, **params):
        """:return: the state of every task, and what it returned."""
        run = dag.test(run_conf=params)
        tasks = {ti.task_id: ti for ti in run.get_task_instances()}
        returned = {name: ti.xcom_pull(task_ids=name) for name, ti in tasks.items()}
        return SimpleNamespace(
            state=run.state,
            states={name: ti.state for name, ti in tasks.items()},
            tries={name: ti.try_number for name, ti in tasks.items()},
            returned=returned,
        )

    def ask(self, path: str, **body):
        return httpx.post(f"{self.mlflow}/api/2.0/mlflow/{path}", json=body, trust_env=False).json()

    def runs(self, pipeline: str):
        experiments = self.ask("experiments/search", max_results=100, filter=f"name = 'ratchet/{pipeline}'")[
            "experiments"
        ]
        ids = [experiment["experiment_id"] for experiment in experiments]
        return self.ask("runs/search", experiment_ids=ids).get("runs", [])

    def versions(self, pipeline: str):
        answer = httpx.get(
            f"{self.mlflow}/api/2.0/mlflow/model-versions/search",
            params={"filter": f"name='{pipeline}'"},
            trust_env=False,
        )
        return sorted(answer.json().get("model_versions", []), key=lambda version: int(version["version"]))

    def champion(self, pipeline: str):
        answer = httpx.get(
            f"{self.mlflow}/api/2.0/mlflow/registered-models/alias",
            params={"name": pipeline, "alias": "champion"},
            trust_env=False,
        )
        return answer.json().get("model_version", {}).get("version")

    def ledger(self, pipeline: str):
        paths = sorted((self.root / "store" / "ledger" / pipeline).glob("*.json"))
        records = [json.loads(path.read_text()) for path in paths]
        return [(record["event"], record.get("to") or record.get("digest")) for record in records]

    def shown(self):
        """:return: what everything says that may show texts as they are: golden examples, reports."""
        places = [self.root / name for name in ("store", "endpoints", "mlflow", "work")]
        files = [path for place in places for kind in ("*.json", "*.html") for path in place.rglob(kind)]
        return [path.read_text() for path in files]

    def releases(self):
        return sorted(path.name for path in (self.root / "store" / "releases").iterdir())


def fail_once_after_its_work(dag):
    """Let the first attempt of every step do all its work and then die."""
    for task in dag.tasks:
        execute, failed = type(task).execute, []

        def attempt(context, execute=execute, failed=failed):
            made = execute(context["ti"].task, context)
            if not failed:
                failed.append(True)
                raise RuntimeError("the worker was lost after the work was done")
            return made

        task.execute = attempt


def test_every_step_may_fail_after_its_work_and_nothing_is_made_twice(world):
    dag = world.pipeline("retried", sentences(400), approval="undecided")
    fail_once_after_its_work(dag)
    ended = world.run(dag)
    assert ended.state == "success"
    assert len(world.runs("retried")) == len(world.runs("retried/data")) == 1
    assert [version["version"] for version in world.versions("retried")] == ["1"]
    assert world.champion("retried") == "1"
    snapshot = ended.returned["ingest"]["digest"]
    told = [("ingested", snapshot), ("judged", None), ("alias-intent", "1"), ("alias-done", "1")]
    assert world.ledger("retried") == told
    assert len(world.releases()) == 1
    url = ended.returned["deploy"]["url"]
    assert httpx.get(f"{url.rstrip('/')}/metadata").json()["release"] == world.releases()[0]


def test_unchanged_data_is_a_hit_at_every_step_and_bad_data_is_held_until_a_person_overrides(world):
    rows = sentences(400, seed=1)
    dag = world.pipeline("steady", rows)
    first = world.run(dag)
    assert first.state == "success"
    url, digest = first.returned["deploy"]["url"], first.returned["deploy"]["digest"]

    second = world.run(dag)
    hits = {name: made["hit"] for name, made in second.returned.items() if name != "gate"}
    assert hits == dict.fromkeys(("ingest", "train", "evaluate", "deploy", "promote"), True)
    assert all(made["why"].startswith("hit") for name, made in second.returned.items() if name != "gate")
    assert len(world.versions("steady")) == len(world.runs("steady/data")) == 1

    spoiled = write_rows(world.root / "data" / "spoiled.csv", shuffled_training_labels(rows))
    held = world.run(dag, source=str(spoiled))
    assert held.state == "success"
    assert held.states["gate"] == "success"
    assert (held.states["deploy"], held.states["promote"]) == ("skipped", "skipped")
    assert held.returned["gate"]["decision"] == "hold"
    assert held.returned["gate"]["reasons"]
    assert [version["version"] for version in world.versions("steady")] == ["1", "2"]
    assert world.champion("steady") == "1"
    assert httpx.get(f"{url.rstrip('/')}/metadata").json()["release"] == digest

    forced = world.run(dag, source=str(spoiled), override="it is only a test")
    assert (forced.state, world.champion("steady")) == ("success", "2")
    assert httpx.get(f"{url.rstrip('/')}/metadata").json()["release"] == forced.returned["deploy"]["digest"]
    tags = {tag["key"]: tag["value"] for tag in world.versions("steady")[1]["tags"]}
    assert (tags["ratchet.verdict"], tags["ratchet.override"].partition(": ")[2]) == ("hold", "it is only a test")
    events = [event for event, _ in world.ledger("steady")]
    assert events[-4:] == ["judged", "overridden", "alias-intent", "alias-done"]


def test_bad_input_fails_at_once_and_names_the_file(world, capsys):
    dag = world.pipeline("broken", [])
    ended = world.run(dag)
    assert ended.state == "failed"
    assert (ended.states["ingest"], ended.tries["ingest"]) == ("failed", 1)
    assert "rows.csv" in capsys.readouterr().out
    assert world.versions("broken") == []


def test_what_is_forgotten_stays_out_of_all_that_follows(world, url, monkeypatch, tmp_path):
    """Forget, retrain, judge, deploy anew; then back to the release before, whose golden examples lost texts."""
    rows = sentences(400, seed=6)
    dag = world.pipeline("forgetful", rows)
    first = world.run(dag)
    assert (first.state, world.champion("forgetful")) == ("success", "1")
    gone = [text for text, _label in rows if split_of(text, 15, 10) == "test"][:20]
    gone += [text for text, _label in rows if split_of(text, 15, 10) == "train"][:20]
    assert any(text in content for text in gone for content in world.shown())

    monkeypatch.setattr(active, "airflow_of", lambda options: Airflow(url, "operator", PASSWORD))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.mlflow)
    monkeypatch.setenv("RATCHET_HOME", str(world.root))
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(gone))
    spec = str(world.dags / "forgetful.yaml")
    assert main(["seen", spec, "--texts", str(texts)]) == 0
    assert main(["forget", spec, "--texts", str(texts)]) == 0

    again = world.run(dag)
    assert again.state == "success"
    assert {name: state for name, state in again.states.items() if state != "success"} == {}
    assert again.returned["ingest"]["dropped"] == {"forgotten": 40}
    for split, count in (("train", 20), ("test", 20), ("validation", 0)):
        assert again.returned["ingest"]["rows"][split] == first.returned["ingest"]["rows"][split] - count
    assert (again.returned["train"]["version"], again.returned["evaluate"]["rows"]) == (
        "2",
        first.returned["evaluate"]["rows"] - 20,
    )
    assert world.champion("forgetful") == "2"
    live = again.returned["deploy"]
    assert httpx.get(f"{live['url'].rstrip('/')}/metadata").json()["release"] == live["digest"]

    back = world.example("example_deploy_any_model")
    back.get_task("deploy").model, back.get_task("deploy").endpoint = "models:/forgetful/1", live["endpoint"]
    deployed = world.run(back).returned["deploy"]
    assert deployed["model_digest"] == first.returned["deploy"]["model_digest"]
    assert httpx.get(f"{live['url'].rstrip('/')}/metadata").json()["release"] == deployed["digest"]

    assert [text for text in gone for content in world.shown() if text in content] == []
    assert main(["seen", spec, "--texts", str(texts)]) == 3  # no snapshot tells of it any more


def test_a_rollback_brings_endpoint_and_champion_back_and_the_next_run_competes_with_what_is_live(world):
    rows = sentences(400, seed=8)
    dag = world.pipeline("regretted", rows)
    first = world.run(dag).returned["deploy"]
    dag = world.pipeline("regretted", [*rows, *sentences(200, seed=9)])
    second = world.run(dag)
    assert (second.state, world.champion("regretted")) == ("success", "2")

    back = world.load(ROOT / "dags" / "ratchet_rollback.py")
    done = world.run(back, pipeline="regretted", reason="it answers nonsense")
    assert done.state == "success"
    assert world.champion("regretted") == "1"
    assert done.returned["deploy"]["digest"] == first["digest"]
    assert httpx.get(f"{first['url'].rstrip('/')}/metadata").json()["release"] == first["digest"]
    assert [event for event, _ in world.ledger("regretted")][-4:] == [
        "rollback-begun",
        "alias-intent",
        "barred",
        "alias-done",
    ]
    assert world.run(dag).returned["evaluate"]["champion"] == "models:/regretted/1"

    refused = world.run(back, pipeline="regretted", version="9", reason="it answers nonsense")
    assert (refused.state, refused.tries["choose"]) == ("failed", 1)


def test_after_gc_a_run_finds_all_that_it_needs(world, monkeypatch):
    rows = sentences(400, seed=10)
    dag = world.pipeline("tidy", rows)
    first = world.run(dag)
    spoiled = shuffled_training_labels(rows)
    for count in (300, 400):  # two candidates that are held
        held = world.run(dag, source=str(write_rows(world.root / "data" / f"spoiled-{count}.csv", spoiled[:count])))
        assert held.returned["gate"]["decision"] == "hold"
    for path in (world.root / "store").rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 30 * 86400,) * 2)
    monkeypatch.setenv("RATCHET_HOME", str(world.root))
    models = {path.name for path in (world.root / "store" / "models").iterdir()}
    assert main(["gc", "--verdicts", "1"]) == 0
    assert {path.name for path in (world.root / "store" / "models").iterdir()} == models
    assert main(["gc", "--verdicts", "1", "--yes"]) == 0
    digests = [version["tags"] for version in world.versions("tidy")]
    digests = [next(tag["value"] for tag in tags if tag["key"] == "ratchet.model_digest") for tags in digests]
    left = {path.name for path in (world.root / "store" / "models").iterdir()}
    assert [digest in left for digest in digests] == [True, False, True]

    again = world.run(dag, source=None)  # without it, dag.test takes the last run's
    assert [made["hit"] for name, made in again.returned.items() if name != "gate"] == [True] * 5
    assert again.returned["deploy"]["digest"] == first.returned["deploy"]["digest"]


def test_a_model_that_was_trained_elsewhere_is_the_champion_that_the_first_trained_one_has_to_match(world):
    rows = sentences(400, seed=11)
    elsewhere = world.run(world.pipeline("elsewhere", rows)).returned["train"]["model"]
    dag = world.pipeline("heir", [*rows, *sentences(100, seed=12)])
    imported = world.run(dag, model=elsewhere, model_labels=None)
    assert (imported.state, world.champion("heir")) == ("success", "1")
    assert imported.returned["train"]["source"] == elsewhere
    served = httpx.get(f"{imported.returned['deploy']['url'].rstrip('/')}/metadata").json()
    assert served["model_digest"] == imported.returned["train"]["digest"]
    cards = [path.read_text() for path in (world.root / "mlflow").rglob("artifacts/model/README.md")]
    assert [card for card in cards if "# heir version 1\n" in card and "trained on snapshot" in card]

    trained = world.run(dag, model=None)
    assert trained.returned["train"]["version"] == "2"
    assert trained.returned["evaluate"]["champion"] == "models:/heir/1"


def test_any_two_versions_are_judged_on_any_parquet_file(world, monkeypatch):
    rows = sentences(400, seed=4)
    dag = world.pipeline("judged", rows)
    world.run(dag)
    guessed = write_rows(world.root / "data" / "guessed.csv", shuffled_training_labels(rows))
    world.run(dag, source=str(guessed))
    monkeypatch.setenv("EXAMPLE_TEST_SET", str(parquet(world.root / "data" / "unseen.parquet", sentences(100, seed=5))))
    judge = world.example("example_judge_two_versions")
    good, bad = "models:/judged/1", "models:/judged/2"
    assert world.run(judge, candidate=good, champion=bad).returned["gate"]["decision"] == "promote"
    held = world.run(judge, candidate=bad, champion=good).returned["gate"]
    assert held["decision"] == "hold"
    assert "champion" in " ".join(held["reasons"])
    assert world.champion("judged") == "1"


def test_the_examples_run_as_they_are(world, monkeypatch):
    rows = sentences(300, seed=2)
    monkeypatch.setenv("EXAMPLE_SOURCE", str(write_rows(world.root / "data" / "by-hand" / "rows.csv", rows)))
    monkeypatch.setenv("EXAMPLE_BASE_MODEL", str(world.root / "base-model"))
    by_hand = world.run(world.example("example_steps_by_hand"))
    assert by_hand.state == "success"
    assert by_hand.returned["promote"]["version"] == "1"

    monkeypatch.setenv("EXAMPLE_MODEL", by_hand.returned["train"]["model"])
    deployed = world.run(world.example("example_deploy_any_model"))
    assert deployed.returned["deploy"]["endpoint"] == "example-any-model"
    answer = httpx.post(deployed.returned["deploy"]["url"], json={"inputs": "a good film"})
    assert answer.json()[0][0]["label"] in ("pos", "neg")

    # an endpoint of a registered model is not for any other
    live = by_hand.returned["deploy"]
    intruder = world.example("example_deploy_any_model")
    intruder.get_task("deploy").endpoint = live["endpoint"]
    refused = world.run(intruder)
    assert (refused.state, refused.tries["deploy"]) == ("failed", 1)
    assert httpx.get(f"{live['url'].rstrip('/')}/metadata").json()["release"] == live["digest"]
