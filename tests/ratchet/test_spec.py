from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from ratchet.document import SpecError
from ratchet.spec import PipelineSpec, load_spec
from ratchet.spec.gate import BoundedMetric, Gate
from training.checks import CHECKS
from training.contract import Checks, IngestRequest, Reading, TrainRequest
from training.report import HIGHER_IS_BETTER, METRICS
from training.rules import Rules
from training.slices import check_slices

ROOT = Path(__file__).resolve().parents[2]

SHORTEST = """\
data:
  source: messages.csv
  text: message
  label: topic
"""


def spec_at(path: Path, text: str = SHORTEST, **environment: str) -> PipelineSpec:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return load_spec(path, environment)


NOTIFY = SHORTEST + "notify:\n"


def problems_of(tmp_path: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(SpecError) as caught:
        spec_at(tmp_path / "mail.yaml", text)
    return [(p.line, p.key, p.message) for p in caught.value.problems]


def test_the_shortest_spec_is_under_ten_lines_and_complete(tmp_path):
    spec = spec_at(tmp_path / "my_mail.yaml")
    assert len(SHORTEST.splitlines()) < 10
    assert spec.name == "my_mail"
    assert spec.path == tmp_path / "my_mail.yaml"
    assert spec.deploy.endpoint == "my-mail"
    assert spec.train.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert spec.trigger.schedule is None


def test_a_section_with_nothing_in_it_means_its_defaults(tmp_path):
    empty = "".join(f"{section}:\n" for section in ("train", "gate", "deploy", "trigger"))
    assert spec_at(tmp_path / "mail.yaml", SHORTEST + empty) == spec_at(tmp_path / "mail.yaml")


def test_every_key_arrives_in_the_request_of_its_step(tmp_path):
    spec = spec_at(
        tmp_path / "mail.yaml",
        """\
data:
  {source: s3://b/k.csv, connection: bucket, text: t, label: l, time: at, keep: [r, q], validation: /v.csv,
   test: /t.csv, format: csv, test_percent: 20, validation_percent: 5, window_days: 30, max_rows_per_label: 100,
   removed: keep, min_rows_per_label: 4, moved_share_percent: 2.5,
   labels: [a, b], checks: {not_utf8: fail, personal_data: redact}, phone_region: DE, bad_rows_percent: 2.5}
train:
  {base_model: org/model@main, arguments: {learning_rate: 1e-4}, class_weights: balanced,
   trainer: acme.focal:FocalTrainer, max_length: 64, early_stopping_epochs: null, timeout_minutes: 5}
gate: {minimum: {accuracy: 0.8}, no_worse_by: 0, metric: log_loss}
deploy: {endpoint: mail-prod, timeout_minutes: 3}
trigger: {schedule: "0 3 * * 1", timezone: Europe/Berlin, new_data: {min_rows: 5, queue: "https://sqs/1/mail"}}
""",
    )
    assert spec.ingest_request("file:///store", watermark="file:///w", max_rows=7, force=True) == IngestRequest(
        pipeline="mail",
        store="file:///store",
        reading=Reading(
            source="s3://b/k.csv",
            text="t",
            label="l",
            time="at",
            keep=["r", "q"],
            validation="/v.csv",
            test="/t.csv",
            format="csv",
            test_percent=20,
            validation_percent=5,
        ),
        checks=Checks(
            labels=["a", "b"],
            window_days=30,
            max_rows_per_label=100,
            min_rows_per_label=4,
            moved_share_percent=2.5,
            removed="keep",
            bad_rows_percent=2.5,
            phone_region="DE",
            policies={"not_utf8": "fail", "personal_data": "redact"},
        ),
        watermark="file:///w",
        base_model="org/model@main",
        max_length=64,
        max_rows=7,
        force=True,
    )
    assert TrainRequest(snapshot="s", **spec.train_request("file:///store", "/work")) == TrainRequest(
        snapshot="s",
        pipeline="mail",
        store="file:///store",
        work="/work",
        base_model="org/model@main",
        arguments={"learning_rate": 0.0001},
        class_weights="balanced",
        trainer="acme.focal:FocalTrainer",
        max_length=64,
        early_stopping_epochs=None,
    )
    assert Rules.from_dict(spec.gate_rules()) == Rules(minimum={"accuracy": 0.8}, no_worse_by=0, metric="log_loss")
    assert (spec.train.timeout_minutes, spec.deploy.timeout_minutes) == (5, 3)
    assert (spec.deploy.endpoint, spec.trigger.schedule) == ("mail-prod", "0 3 * * 1")
    assert (spec.trigger.timezone, spec.data.connection) == ("Europe/Berlin", "bucket")
    assert spec.trigger.new_data is not None
    assert (spec.trigger.new_data.min_rows, spec.trigger.new_data.queue) == (5, "https://sqs/1/mail")


def test_a_query_is_read_through_its_connection_and_only_its_name_is_passed_on(tmp_path):
    text = "data: {connection: warehouse, query: 'select body, topic from mail', text: body, label: topic}\n"
    reading = spec_at(tmp_path / "mail.yaml", text).ingest_request("file:///store").reading
    assert reading == Reading(
        source="sql://warehouse", query="select body, topic from mail", text="body", label="topic"
    )


@pytest.mark.parametrize("new_data", ["new_data:", "new_data: {}", "new_data:  # {min_rows: 5}"])
def test_new_data_without_keys_means_its_defaults(tmp_path, new_data):
    found = spec_at(tmp_path / "mail.yaml", f"{SHORTEST}trigger:\n  {new_data}\n").trigger.new_data
    assert found is not None
    assert found.model_dump() == {
        "min_rows": 1,
        "quiet_minutes": 5,
        "cooldown_hours": 0,
        "poll_seconds": 30,
        "queue": None,
    }


def test_a_spec_without_new_data_keys_is_not_watched(tmp_path):
    assert spec_at(tmp_path / "mail.yaml").trigger.new_data is None


def test_every_check_can_be_given_each_of_its_policies(tmp_path):
    for name, check in CHECKS.items():
        for policy in check.policies:
            spec = spec_at(tmp_path / "mail.yaml", f"{SHORTEST}  checks: {{{name}: {policy}}}\n")
            assert spec.data.kept().policies == {name: policy}


def test_a_policy_that_a_check_does_not_have_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(SpecError) as refused:
        spec_at(tmp_path / "mail.yaml", f"{SHORTEST}  checks: {{empty_text: report, in_test: ignore}}\n")
    assert "empty_text cannot be report, expected drop or quarantine or fail" in str(refused.value)
    assert "in_test cannot be ignore, expected drop or quarantine or fail" in str(refused.value)


def test_every_kind_of_slice_arrives_as_the_stage_takes_it(tmp_path):
    spec = spec_at(
        tmp_path / "mail.yaml",
        f"""{SLICES}
    each: {{column: region}}
    some: {{column: region, is: [EU, 3, true, " US "]}}
    one: {{column: region, is: EU}}
    short: {{text_length: [null, 20]}}
    billing: {{label: billing}}
    chat: {{source: "*/chat-*"}}
    recent: {{age_days: [0, 7.5]}}
    costly: {{where: "amount > 3"}}
""",
    )
    wanted = spec.gate.wanted_slices()
    assert check_slices(wanted)
    assert wanted == {
        "each": {"column": "region"},
        "some": {"column": "region", "values": ["EU", "3", "true", "US"]},
        "one": {"column": "region", "values": ["EU"]},
        "short": {"text_length": [None, 20]},
        "billing": {"label": ["billing"]},
        "chat": {"source": "*/chat-*"},
        "recent": {"age_days": [0, 7.5]},
        "costly": {"where": "amount > 3"},
    }


def test_the_spec_offers_the_metrics_that_the_gate_knows():
    assert set(get_args(BoundedMetric)) == set(HIGHER_IS_BETTER)
    assert set(get_args(Gate.model_fields["metric"].annotation)) == set(METRICS)


def test_a_column_may_be_named_with_braces(tmp_path):
    spec = spec_at(tmp_path / "mail.yaml", SHORTEST.replace("message\n", "'{{ message }}'\n").replace("topic", "'{%'"))
    assert (spec.data.text, spec.data.label) == ("{{ message }}", "{%")


def test_a_spec_cannot_be_changed_after_it_was_read(tmp_path):
    spec = spec_at(tmp_path / "mail.yaml")
    with pytest.raises(ValueError, match="frozen"):
        spec.data.text = "other"


QUERY = """\
data:
  connection: warehouse
  query: SELECT * FROM mail
  text: body
  label: topic
"""

SLICES = f"{SHORTEST}  keep: [region]\ngate:\n  slices:\n"

# line, key, what the message says
BAD = [
    ("text: a", 1, "data", "missing; expected a section"),
    ("data:", 1, "data", "expected keys and values, found null"),
    ("data: messages.csv", 1, "data", 'expected keys and values, found "messages.csv"'),
    ("data:\n  source: a.csv\n  text: b", 1, "data.label", "missing; expected a value"),
    (SHORTEST + "  formt: csv", 5, "data.formt", "did you mean 'format'?"),
    (SHORTEST + "  zzz: 1", 5, "data.zzz", "unknown key; valid: source, text, label"),
    (SHORTEST + "trian:\n  max_length: 9", 5, "trian", "did you mean 'train'? valid: data, train, gate"),
    (SHORTEST + "base_model: a/b", 5, "base_model", "it belongs in train: base_model"),
    (SHORTEST + "  schedule: '@daily'", 5, "data.schedule", "it belongs in trigger: schedule"),
    (SHORTEST + "name: mail", 5, "name", "unknown key"),
    (SHORTEST.replace("topic", "1"), 4, "data.label", "expected text, found 1; put it in quotes"),
    (SHORTEST.replace("topic", "true"), 4, "data.label", "expected text, found true; put it in quotes"),
    (SHORTEST.replace("topic", "[a]"), 4, "data.label", "expected text, found a list"),
    (SHORTEST.replace("topic", "''"), 4, "data.label", "expected some text"),
    (SHORTEST.replace("topic", "message"), 4, "data.label", "expected another column than data.text"),
    (SHORTEST.replace("messages.csv", "ftp://x/y"), 2, "data.source", "expected a path, file://, s3:// or hf://"),
    (SHORTEST.replace("messages.csv", "s3://bucket"), 2, "data.source", "expected s3://bucket/key"),
    (SHORTEST.replace("messages.csv", "hf://"), 2, "data.source", "expected hf://ORG/NAME@REVISION"),
    (SHORTEST.replace("messages.csv", "~/a.csv"), 2, "data.source", "~ is not expanded"),
    (SHORTEST.replace("messages.csv", "${UNSET}/a.csv"), 2, "data.source", "environment variable UNSET is not set"),
    (SHORTEST.replace("messages.csv", "${A:-x}/a.csv"), 2, "data.source", "with nothing but a name in the braces"),
    (SHORTEST.replace("messages.csv", "{connection: db}"), 2, "data.source", "connection and query are keys beside it"),
    ("data:\n  text: a\n  label: b", 1, "data", "expected source, or connection and query"),
    ("data:\n  query: select 1\n  text: a\n  label: b", 1, "data", "query needs connection"),
    (SHORTEST + "  connection: db\n  query: select 1", 6, "data.query", "either source or query, not both"),
    (QUERY.replace("SELECT * FROM", "DELETE FROM"), 3, "data.query", "begins with SELECT or WITH"),
    (QUERY + "  window_days: 7", 6, "data.window_days", "needs data.time"),
    (QUERY + "trigger:\n  new_data: {}", 7, "trigger.new_data", "a query is not watched"),
    (SHORTEST + "  connection: aws", 5, "data.connection", "nothing here uses it"),
    (SHORTEST + "  phone_region: DE", 5, "data.phone_region", "expected checks.personal_data beside it"),
    (SHORTEST + "  checks: {personal_data: drop}\n  phone_region: de", 6, "data.phone_region", "such as DE, found"),
    (SHORTEST + "  connection: postgres://me@x", 5, "data.connection", "the id of an Airflow connection"),
    (SHORTEST + "  keep: region", 5, "data.keep", 'expected a valid list, found "region"'),
    (SHORTEST + "  keep: [Topic]", 5, "data.keep", "other columns than data.text, data.label and data.time; 'Topic'"),
    (SHORTEST + "  keep: [a, A]", 5, "data.keep", "each column once"),
    (SHORTEST + "  labels: [a]", 5, "data.labels", "at least two different labels"),
    (SHORTEST + "  labels: [a, b, a]", 5, "data.labels", "given twice: a"),
    (SHORTEST + "  labels: [a, 1]", 5, "data.labels.1", "expected text, found 1; put it in quotes"),
    (SHORTEST + "  window_days: 0", 5, "data.window_days", "greater than or equal to 1, found 0"),
    (SHORTEST + "  max_rows_per_label: 1.5", 5, "data.max_rows_per_label", "expected a valid integer, found 1.5"),
    (SHORTEST + "  removed: archive", 5, "data.removed", "expected 'drop' or 'keep', found \"archive\""),
    (SHORTEST + "  checks:\n    not_utf: drop", 6, "data.checks.not_utf", "unknown check; did you mean 'not_utf8'?"),
    (SHORTEST + "  checks:\n    not_utf8: keep", 6, "data.checks.not_utf8", "'drop', 'quarantine' or 'fail', found"),
    (SHORTEST + "  checks: drop", 5, "data.checks", 'expected keys and values, found "drop"'),
    (SHORTEST + "  bad_rows_percent: 101", 5, "data.bad_rows_percent", "less than or equal to 100, found 101"),
    (SHORTEST + "  test_percent: '15'", 5, "data.test_percent", 'expected a valid integer, found "15"'),
    (SHORTEST + "  test_percent: 0", 5, "data.test_percent", "expected greater than or equal to 1, found 0"),
    (SHORTEST + "  test_percent: 7.5", 5, "data.test_percent", "expected a valid integer, found 7.5"),
    (SHORTEST + "  test_percent: 60\n  validation_percent: 40", 1, "data", "leave no rows to train on"),
    (SHORTEST + "  format: xlsx", 5, "data.format", "'jsonl', 'parquet' or 'arrow', found \"xlsx\""),
    (SHORTEST + "train:\n  base_model: a b", 6, "train.base_model", "expected a Hub id"),
    (SHORTEST + "train:\n  base_model: ~/m", 6, "train.base_model", "~ is not expanded"),
    (SHORTEST + "train:\n  target: sagemaker", 6, "train.target", "'sagemaker' is planned and not there yet"),
    (SHORTEST + "train:\n  target: gcp", 6, "train.target", "expected 'local', found \"gcp\""),
    (SHORTEST + "train:\n  arguments: [1]", 6, "train.arguments", "expected keys and values, found a list"),
    (SHORTEST + "train:\n  trainer: Focal", 6, "train.trainer", 'expected module:Class, found "Focal"'),
    (SHORTEST + "train:\n  class_weights: yes", 6, "train.class_weights", "expected 'balanced', found \"yes\""),
    (SHORTEST + "train:\n  max_length: true", 6, "train.max_length", "expected a valid integer, found true"),
    (SHORTEST + "train:\n  max_length: 99999999999", 6, "train.max_length", "less than or equal to 1000000"),
    (SHORTEST + "train:\n  timeout_minutes: 99999999999999", 6, "train.timeout_minutes", "less than or equal to 43200"),
    (SHORTEST + "deploy:\n  timeout_minutes: 43201", 6, "deploy.timeout_minutes", "less than or equal to 43200"),
    (SHORTEST + "train:\n\n  early_stopping_epochs: 0", 7, "train.early_stopping_epochs", "greater than or equal to 1"),
    (SHORTEST + "gate:\n  minimum: {f1: 0.5}", 6, "gate.minimum.f1", "unknown metric; valid: accuracy, f1_macro"),
    (SHORTEST + "gate:\n  minimum:\n    accuracy: 85", 7, "gate.minimum.accuracy", "less than or equal to 1, found 85"),
    (SHORTEST + "gate:\n  minimum: 0.8", 6, "gate.minimum", "expected keys and values, found 0.8"),
    (SHORTEST + "gate:\n  no_worse_by: -0.1", 6, "gate.no_worse_by", "greater than or equal to 0, found -0.1"),
    (SHORTEST + "gate:\n  no_worse_by: null", 6, "gate.no_worse_by", "expected a valid number, found null"),
    (SHORTEST + "gate:\n  no_worse_by: .nan", 6, "gate.no_worse_by", 'expected a valid number, found ".nan"'),
    (SHORTEST + "gate:\n  metric: f2", 6, "gate.metric", "'f1_weighted' or 'log_loss', found \"f2\""),
    (SLICES + "    s: {}", 8, "gate.slices.s", "expected one of column, text_length, label"),
    (SLICES + "    s: short", 8, "gate.slices.s", 'expected keys and values, found "short"'),
    (SLICES + "    s: {column: region, label: a}", 8, "gate.slices.s", "expected one of column, text_length, label"),
    (SLICES + "    s: {label: a, is: a}", 8, "gate.slices.s", "`is` only beside column"),
    (
        SLICES + "    s: {colum: region}",
        8,
        "gate.slices.s.colum",
        "unknown key; did you mean 'column'? valid: column, is",
    ),
    (SLICES + "    s: {column: regoin}", 8, "gate.slices.s.column", "data.keep names; did you mean 'region'?"),
    (SLICES + "    s: {column: region, is: []}", 8, "gate.slices.s.is", "expected a value, or a list of some"),
    (SLICES + "    s: {column: region, is: [[a]]}", 8, "gate.slices.s.is", "expected a value, or a list of some"),
    (SLICES + "    s: {column: region, is: null}", 8, "gate.slices.s", "only beside column, with a value"),
    (SLICES + "    s: {text_length: 20}", 8, "gate.slices.s.text_length", "expected [from, below]"),
    (SLICES + "    s: {text_length: [20, 20]}", 8, "gate.slices.s.text_length", "expected [from, below]"),
    (SLICES + "    s: {age_days: [null, null]}", 8, "gate.slices.s.age_days", "expected [from, below]"),
    (SLICES + "    s: {age_days: ['1', 2]}", 8, "gate.slices.s.age_days", "expected [from, below]"),
    (SLICES + "    s: {where: ''}", 8, "gate.slices.s.where", "expected some text"),
    (SLICES + "    text_sha256: {label: a}", 7, "gate.slices", "another one than 'text_sha256'"),
    (SHORTEST + "  labels: [a, b]\ngate: {slices: {s: {label: [c]}}}", 6, "gate.slices.s.label", "valid: a, b"),
    (QUERY + "gate: {slices: {s: {age_days: [0, 1]}}}", 6, "gate.slices.s.age_days", "needs data.time"),
    (SHORTEST + "gate: {slices: {s: {column: a}}}", 5, "gate.slices.s.column", "data.keep names; it names none"),
    (SHORTEST + "gate:\n  approval: sometimes", 6, "gate.approval", "'never', 'undecided' or 'always'"),
    (SHORTEST + "gate:\n  approvers: [anna]", 6, "gate.approvers", "nobody is asked; expected approval"),
    (SHORTEST + "gate:\n  approval_hours: 9", 6, "gate.approval_hours", "nobody is asked; expected approval"),
    (NOTIFY + "  - {notifier: a.B, on: [ask]}", 6, "notify.0.on", "nobody is asked; expected gate.approval"),
    (SHORTEST + "gate:\n  stale_after_days: 9", 6, "gate.stale_after_days", "nobody is told; expected notify"),
    (
        NOTIFY + "  - {notifier: a.B, on: [hold]}\ngate: {stale_after_holds: 3}",
        7,
        "gate.stale_after_holds",
        "nobody is told; expected notify with one whose events, on, have stale",
    ),
    (SHORTEST + "gate:\n  approval_hours: 0", 6, "gate.approval_hours", "greater than 0, found 0"),
    (SHORTEST + "deploy:\n  target: huggingface", 6, "deploy.target", "'huggingface' is planned and not there yet"),
    (SHORTEST + "deploy:\n  endpoint: My_Mail", 6, "deploy.endpoint", "lower-case letters, digits and -"),
    (SHORTEST + "trigger:\n  schedule: 61 * * * *", 6, "trigger.schedule", "expected a cron expression"),
    (SHORTEST + "trigger:\n  schedule: 0 0 31 2 *", 6, "trigger.schedule", "expected a cron expression"),
    (SHORTEST + "trigger:\n  schedule: 3 * * *", 6, "trigger.schedule", "expected five fields"),
    (SHORTEST + "trigger:\n  schedule: '@dayly'", 6, "trigger.schedule", "unknown preset; did you mean '@daily'?"),
    (SHORTEST + "trigger:\n  timezone: Europe/Berln", 6, "trigger.timezone", "did you mean 'Europe/Berlin'?"),
    (SHORTEST + "trigger:\n  timezone: ../etc", 6, "trigger.timezone", "expected an IANA time zone"),
    (SHORTEST + "trigger:\n  new_data: 5", 6, "trigger.new_data", "expected keys and values, found 5"),
    (SHORTEST + "trigger:\n  new_data: {quiet: 5}", 6, "trigger.new_data.quiet", "did you mean 'quiet_minutes'?"),
    (SHORTEST + "trigger:\n  new_data: {min_row: 5}", 6, "trigger.new_data.min_row", "did you mean 'min_rows'?"),
    (SHORTEST + "trigger:\n  new_data: {zzz: 5}", 6, "trigger.new_data.zzz", "unknown key; valid: min_rows, quiet"),
    (SHORTEST + "trigger:\n  new_data: {min_rows: 0}", 6, "trigger.new_data.min_rows", "equal to 1, found 0"),
    (SHORTEST + "trigger:\n  new_data: {quiet_minutes: -1}", 6, "trigger.new_data.quiet_minutes", "equal to 0"),
    (SHORTEST + "trigger:\n  new_data: {poll_seconds: 1}", 6, "trigger.new_data.poll_seconds", "equal to 5, found 1"),
    (SHORTEST + "gate: {baseline: commonest}", 5, "gate.baseline", "expected majority, or the URL of an endpoint"),
    (SHORTEST + "gate: {baseline: 'https://anna:pw@host/model'}", 5, "gate.baseline", "with nothing secret in it"),
    (SHORTEST + "trigger:\n  new_data: {queue: mail}", 6, "trigger.new_data.queue", "the URL of an SQS queue"),
    (SHORTEST + "trigger:\n  new_data: {queue: 'https://sqs/1/a'}", 6, "trigger.new_data.queue", "source on s3://"),
    (SHORTEST + "gate:\n  stale_after_holds: 0", 6, "gate.stale_after_holds", "equal to 1, found 0"),
    (SHORTEST + "notify: {notifier: a.B}", 5, "notify", "expected a valid list"),
    (SHORTEST + "notify: [a.B]", 5, "notify.0", "expected keys and values"),
    (NOTIFY + "  - {}", 6, "notify.0.notifier", "missing"),
    (NOTIFY + "  - notifier: slack", 6, "notify.0.notifier", "expected the dotted path of a class"),
    (NOTIFY + "  - {notifier: a.B, arguments: [c]}", 6, "notify.0.arguments", "expected keys and values"),
    (NOTIFY + "  - {notifer: a.B}", 6, "notify.0.notifer", "unknown key; did you mean 'notifier'?"),
    (NOTIFY + "  - {notifier: a.B, on: [held]}", 6, "notify.0.on.0", "expected 'ask', 'hold', 'promote'"),
    (NOTIFY + "  - {notifier: a.B, on: []}", 6, "notify.0.on", "at least 1 item"),
    (NOTIFY + "  - {notifier: a.B, arguments: {token: x}}", 6, "notify.0.arguments", "token looks like a secret"),
    (
        NOTIFY + "  - {notifier: a.B, arguments: {c: [{d: 'https://me:pl4nted@chat.example/1'}]}}",
        6,
        "notify.0.arguments",
        "d looks like a secret; expected the id of an Airflow connection",
    ),
    (SHORTEST + "notfy: []", 5, "notfy", "unknown key; did you mean 'notify'?"),
    (SHORTEST.replace("messages.csv", "'/x/{{ ds }}.csv'"), 2, "data.source", "expected no {{, {% or {#"),
    (SHORTEST + "  validation: '/x/{% if 1 %}.csv'", 5, "data.validation", "expected no {{, {% or {#"),
    (SHORTEST + "  test: '/x/{# 1 #}.csv'", 5, "data.test", "expected no {{, {% or {#"),
    (SHORTEST + "train:\n  base_model: '/m/{{ ds }}'", 6, "train.base_model", "expected no {{, {% or {#"),
    (SHORTEST + "train:\n  arguments: {a: [{b: '{{ ds }}'}]}", 6, "train.arguments", "expected no {{, {% or {#"),
    (SHORTEST + "  label: other", 5, "data.label", "given twice, first in line 4"),
]


@pytest.mark.parametrize(("text", "line", "key", "message"), BAD, ids=[f"{b[2]}-{i}" for i, b in enumerate(BAD)])
def test_what_is_wrong_is_named_with_line_key_and_what_was_expected(tmp_path, text, line, key, message):
    found = problems_of(tmp_path, text)
    assert [(at, of) for at, of, says in found if message in says] == [(line, key)], found


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    text = "data:\n  source: ${UNSET}\n  text: 1\n  text: 2\ntrain: {x: 1}\nnotify: 1\n"
    with pytest.raises(SpecError) as caught:
        spec_at(tmp_path / "mail.yaml", text)
    path = tmp_path / "mail.yaml"
    starts = [line.split(": ")[:2] for line in str(caught.value).splitlines()]
    assert starts == [
        [f"{path}:1", "data.label"],
        [f"{path}:2", "data.source"],
        [f"{path}:3", "data.text"],
        [f"{path}:4", "data.text"],
        [f"{path}:5", "train.x"],
        [f"{path}:6", "notify"],
    ]


@pytest.mark.parametrize(
    "name", ["Mail.yaml", "mail.yml", "_mail.yaml", "-mail.yaml", "mail box.yaml", "a" * 64 + ".yaml"]
)
def test_a_file_whose_name_cannot_be_a_pipeline_is_refused(tmp_path, name):
    with pytest.raises(SpecError, match=r"expected a file NAME\.yaml"):
        spec_at(tmp_path / name)


@pytest.mark.parametrize("name", ["training", "ratchet", "serving", "airflow"])
def test_a_name_whose_stub_would_hide_a_package_is_refused(tmp_path, name):
    with pytest.raises(SpecError, match=f"would hide the package {name}"):
        spec_at(tmp_path / f"{name}.yaml")


def test_relative_paths_start_at_the_folder_of_the_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        SHORTEST.replace("messages.csv", "../data/*.csv") + "  test: test.csv\ntrain:\n  base_model: ../models/base\n"
    )
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "mail.yaml").write_text(text)
    spec = load_spec(Path("dags/mail.yaml"), {})
    assert spec.data.source == str(tmp_path / "data" / "*.csv")
    assert spec.data.test == str(tmp_path / "dags" / "test.csv")
    assert spec.train.base_model == str(tmp_path / "models" / "base")


@pytest.mark.parametrize(
    "location", ["/abs/a.csv", "s3://b/k/*.csv", "file:///a.csv", "hf://imdb", "hf://o/n@r/c?split=train"]
)
def test_full_locations_stay_as_they_are(tmp_path, location):
    assert spec_at(tmp_path / "mail.yaml", SHORTEST.replace("messages.csv", location)).data.source == location


@pytest.mark.parametrize("model", ["bert-base-uncased", "org/model", "org/model@v1.0", "org/model@refs/pr/3"])
def test_a_base_model_that_does_not_start_like_a_path_is_a_name_on_the_hub(tmp_path, model):
    text = SHORTEST + f"train:\n  base_model: {model}\n"
    assert spec_at(tmp_path / "mail.yaml", text).train.base_model == model


def test_variables_are_replaced_in_locations_and_nowhere_else(tmp_path):
    text = """\
data: {source: "${HOME_OF_DATA}/a.csv", text: "${HOME_OF_DATA}", label: l, test: "s3://${BUCKET}/t.csv"}
train: {base_model: "${HOME_OF_DATA}/base", arguments: {run: "${BUCKET}"}}
"""
    spec = spec_at(tmp_path / "mail.yaml", text, HOME_OF_DATA="/srv/data", BUCKET="acme")
    assert (spec.data.source, spec.data.test) == ("/srv/data/a.csv", "s3://acme/t.csv")
    assert spec.train.base_model == "/srv/data/base"
    assert (spec.data.text, spec.train.arguments) == ("${HOME_OF_DATA}", {"run": "${BUCKET}"})


@pytest.mark.parametrize(
    "line",
    [
        "  password: hunter2",
        "  test: s3://me:hunter2@bucket/key",
        "  test: ${MY_TOKEN}/x",
        "  test: ftp://me:hunter2@x/y",
        "  format: hf_hunter2hunter2",
        "  test_percent: {api_key: hunter2}",
        "  test: s3://me:hunter2/hunter2@bucket/key",
        "  test: s3://me%3Ahunter2@bucket/key",
        "  test: s3://hunter2@bucket/key",
        "  test: file://me:hunter2@host/t.csv",
        "  test: hf://hf_hunter2hunter2/data",
        "  test: /data/t.csv?token=hunter2",
        "  test: s3://bucket/t.csv?X-Amz-Signature=hunter2",
        "train: {base_model: hf_hunter2hunter2/model}",
        "train: {arguments: {run_name: 's3://me:hunter2/hunter2@bucket/key'}}",
        "train: {hub_token: hunter2, max_length: hf_hunter2hunter2}",
        "hunter: [hunter2]",
    ],
)
def test_nothing_that_looks_like_a_secret_is_repeated(tmp_path, line):
    with pytest.raises(SpecError) as caught:
        spec_at(tmp_path / "mail.yaml", f"{SHORTEST}{line}\n", MY_TOKEN="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        "s3://bucket/me@mail.example/a:b.csv",
        "file:///data/a:b@c.csv",
        "/data/hf_datasets/a.csv",
        "/data/hf_sentimentanalysis_2024/a.csv",
        "/data/token=2024/a?.csv",
        "hf://imdb@main",
        "hf://org/name@refs%2Fpr%2F3/c?split=train",
    ],
)
def test_what_only_resembles_a_secret_is_a_location(tmp_path, location):
    assert spec_at(tmp_path / "mail.yaml", SHORTEST.replace("messages.csv", location)).data.source == location


@pytest.mark.parametrize(
    "argument",
    [
        "{pwd: hunter2}",
        "{db_pwd: hunter2}",
        "{routing_key: hunter2}",
        "{headers: {Authorization: Bearer hunter2}}",
        "{text: 'Authorization: Bearer hunter2hunter2'}",
        "{url: 'https://hooks.slack.com/services/T0/B0/hunter2'}",
        "{url: 'https://acme.webhook.office.com/webhookb2/hunter2@0/IncomingWebhook/1/2'}",
        "{url: 'https://prod-1.westeurope.logic.azure.com:443/workflows/hunter2/triggers'}",
        "{url: 'https://chat.example/run?api=1&sig=hunter2'}",
        "{url: 'https://discord.com/api/webhooks/1/hunter2'}",
        "{room: xoxb-1234-hunter2hunter2}",
        "{room: ghp_hunter2hunter2}",
    ],
)
def test_a_notifier_takes_no_secret(tmp_path, argument):
    with pytest.raises(SpecError, match="looks like a secret") as caught:
        spec_at(tmp_path / "mail.yaml", f"{NOTIFY}  - {{notifier: a.B, arguments: {argument}}}\n")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "argument",
    ["{slack_conn_id: team, channel: '#ml'}", "{subject: 'the bearer is intents-2024', to: [ml@acme.example]}"],
)
def test_a_notifier_takes_what_only_resembles_a_secret(tmp_path, argument):
    spec_at(tmp_path / "mail.yaml", f"{NOTIFY}  - {{notifier: a.B, arguments: {argument}}}\n")


@pytest.mark.parametrize("preset", ["@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"])
def test_airflow_knows_every_preset_that_the_spec_takes(tmp_path, preset):
    from airflow.sdk import DAG

    text = f"{SHORTEST}trigger: {{schedule: '{preset}'}}\n"
    DAG("mail", schedule=spec_at(tmp_path / "mail.yaml", text).trigger.schedule)


def test_a_spec_is_read_without_anything_heavy():
    code = (
        "import sys; from ratchet.spec import load_spec; from pathlib import Path; "
        f"load_spec(Path({str(ROOT / 'dags' / 'intents.yaml')!r})); "
        "print(*{m.partition('.')[0] for m in sys.modules} & "
        "{'torch', 'transformers', 'datasets', 'mlflow', 'airflow', 'pandas', 'numpy', 'pyarrow', 'fsspec'})"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_notifications_are_of_all_events_unless_the_spec_names_some(tmp_path):
    text = NOTIFY + "  - {notifier: a.B, arguments: {to: [anna], slack_conn_id: slack, text: '{{ ratchet.text }}'}}\n"
    first, second = spec_at(tmp_path / "mail.yaml", text + "  - {notifier: a.C, on: [stale]}\n").notifications()
    assert first["arguments"] == {"to": ["anna"], "slack_conn_id": "slack", "text": "{{ ratchet.text }}"}
    assert first["on"] == ["ask", "hold", "promote", "rollback", "failure", "stale"]
    assert second == {"notifier": "a.C", "arguments": {}, "on": ["stale"]}
    assert spec_at(tmp_path / "mail.yaml", NOTIFY).notifications() == []
