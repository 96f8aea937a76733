"""A spec becomes a DAG whose steps are wired in the order of the design, at a price that parsing can bear."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError

from ratchet.factory import build
from ratchet.location import checked_source
from ratchet.spec import SpecError, load_spec

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "datasets", "mlflow", "pandas", "pyarrow", "sklearn", "openvino", "boto3")


def spec(tmp_path, text="data:\n  source: rows.csv\n  text: utterance\n  label: intent\n"):
    path = tmp_path / "intents.yaml"
    path.write_text(text)
    return load_spec(path)


def test_the_steps_follow_each_other(tmp_path):
    dag = build(spec(tmp_path))
    order = ["ingest", "train", "evaluate", "gate", "deploy", "promote"]
    assert [task.task_id for task in dag.topological_sort()] == order
    for before, after in itertools.pairwise(order):
        assert after in dag.get_task(before).downstream_task_ids


def test_nothing_after_the_gate_can_run_without_its_verdict(tmp_path):
    dag = build(spec(tmp_path))
    for task_id in ("deploy", "promote"):
        assert "gate" in dag.get_task(task_id).get_flat_relative_ids(upstream=True)
        assert dag.get_task(task_id).trigger_rule == "all_success"


def test_what_the_spec_says_reaches_the_operators(tmp_path):
    dag = build(
        spec(
            tmp_path,
            "data: {source: rows.csv, text: utterance, label: intent, test_percent: 20}\n"
            "train: {arguments: {num_train_epochs: 4}, timeout_minutes: 30}\n"
            "gate: {minimum: {accuracy: 0.8}, no_worse_by: 0.02}\n"
            "deploy: {endpoint: front-desk}\n"
            'trigger: {schedule: "0 3 * * 1"}\n',
        )
    )
    ingest, train, gate, deploy = (dag.get_task(name) for name in ("ingest", "train", "gate", "deploy"))
    assert (ingest.text_column, ingest.label_column, ingest.test_percent) == ("utterance", "intent", 20)
    assert train.arguments == {"num_train_epochs": 4}
    assert train.execution_timeout.total_seconds() == 1800
    assert (gate.minimum, gate.no_worse_by) == ({"accuracy": 0.8}, 0.02)
    assert deploy.endpoint == "front-desk"
    assert dag.schedule == "0 3 * * 1"


# What Airflow renders of what a spec says: the first two refuse templates, the others have no room for braces
RENDERED = {
    "ingest": {"source", "validation", "test"},
    "train": {"base_model", "arguments"},
    "evaluate": {"champion"},
    "gate": {"minimum", "no_worse_by", "metric"},
    "deploy": {"endpoint"},
    "promote": set(),
}


def test_every_value_of_a_spec_that_airflow_would_render_is_known(tmp_path):
    """Another one must refuse templates too, or Airflow puts any connection's password there."""
    text = "data: {source: /s.csv, text: t, label: l, validation: /v.csv, test: /t.csv, format: csv}\n"
    dag = build(spec(tmp_path, f"{text}train: {{base_model: /m, trainer: a:B, class_weights: balanced}}\n"))
    assert {
        task.task_id: {name for name in task.template_fields if isinstance(getattr(task, name), str | dict | float)}
        for task in dag.tasks
    } == RENDERED


def test_a_server_may_be_away_for_five_minutes_before_a_run_ends(tmp_path):
    for task in build(spec(tmp_path)).tasks:
        delays = [
            min(task.max_retry_delay, task.retry_delay * task.retry_exponential_backoff**attempt)
            for attempt in range(task.retries)
        ]
        assert sum(delays, timedelta()) >= timedelta(minutes=5)


def test_the_form_starts_a_run_without_anything_filled_in(tmp_path):
    params = build(spec(tmp_path)).params
    assert {name: params[name] for name in params} == {"force": False, "note": None, "source": None}
    for name in ("note", "source"):
        assert "null" in params.get_param(name).schema["type"]


TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
SOURCES = [
    "/data/a b.csv",
    "file:///a:b@c.csv",
    "s3://b/me@example/x?.csv",
    "hf://imdb@main",
    "hf://o/n@r/c?split=train",
]
NO_SOURCES = [
    "s3://me:pw@bucket/a.csv",
    "s3://me:p/w@bucket/a.csv",
    "s3://me%3Apw@bucket/a.csv",
    "s3://me@bucket/a.csv",
    "file://me:pw@host/a.csv",
    f"hf://{TOKEN}/data",
    f"/data/a.csv?token={TOKEN}",
    "/data/AKIAIOSFODNN7EXAMPLE.csv",
    "ftp://host/a.csv",
    "a.csv",
]


@pytest.mark.parametrize("source", [*SOURCES, "", None])
def test_a_run_may_read_other_data(tmp_path, source):
    param = build(spec(tmp_path)).params.get_param("source")
    assert param.resolve(source) == source
    if source:
        assert checked_source(source) == source


@pytest.mark.parametrize("source", NO_SOURCES)
def test_a_source_with_credentials_or_that_nothing_reads_starts_no_run(tmp_path, source):
    param = build(spec(tmp_path)).params.get_param("source")
    with pytest.raises(ParamValidationError):
        param.resolve(source)


def test_the_documentation_tells_the_spec(tmp_path):
    text = build(spec(tmp_path)).doc_md
    assert "`utterance`" in text
    assert "no worse than the champion's by more than 0.01" in text


def test_nothing_in_a_spec_is_markup_in_the_documentation(tmp_path):
    names = 'text: "a|b\\n\\n# c", label: "``<img src=x onerror=alert(1)>`"'
    text = build(spec(tmp_path, f"data: {{source: '/x/`*.csv', {names}}}\n")).doc_md
    [row] = [line for line in text.splitlines() if line.startswith("| **Data**")]
    assert row == (r"| **Data** | `` /x/`*.csv ``: text `a\|b # c`, label ``` ``<img src=x onerror=alert(1)>` ``` |")


def test_a_broken_spec_breaks_one_dag_and_names_its_line(tmp_path):
    with pytest.raises(SpecError, match=r"intents.yaml:4"):
        spec(tmp_path, "data:\n  source: rows.csv\n  text: a\n  lable: b\n  label: c\n")


def fresh_interpreter(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "AIRFLOW_HOME": "/nonexistent"},
    ).stdout


@pytest.fixture
def dag_file(tmp_path):
    from ratchet.stub import write_stub

    (tmp_path / "intents.yaml").write_text("data:\n  source: rows.csv\n  text: utterance\n  label: intent\n")
    return write_stub(tmp_path / "intents.yaml")


def test_parsing_a_dag_file_imports_nothing_heavy(dag_file):
    code = f"import runpy, sys, json; runpy.run_path({str(dag_file)!r}); print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(fresh_interpreter(code).splitlines()[-1]))
    assert loaded.isdisjoint(HEAVY)


def test_a_dag_file_adds_under_300_ms_to_airflow_itself(dag_file):
    code = (
        "import time, runpy\n"
        "from airflow.sdk import DAG, BaseOperator\n"
        "began = time.perf_counter()\n"
        f"runpy.run_path({str(dag_file)!r})\n"
        "print(time.perf_counter() - began)"
    )
    assert statistics.median(float(fresh_interpreter(code).splitlines()[-1]) for _ in range(5)) < 0.3
