from __future__ import annotations

from datetime import timedelta

import pytest

from ratchet.cli import main, validate
from tests.servers import training_python
from training.contract import BadInput

VALID = "data: {source: a.csv, text: b, label: c}\n"


@pytest.fixture(autouse=True)
def dags(tmp_path, monkeypatch):
    """An empty directory of specs, and no stage unless the test brings one."""

    def no_stage(*_, **__):
        raise AssertionError("a stage was started")

    monkeypatch.setattr(validate, "run_stage", no_stage)
    monkeypatch.setenv("RATCHET_DAGS", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(tmp_path / "work"))
    return tmp_path


def answer_of_check(monkeypatch, slices=(), **problems: str) -> list:
    requests = []

    def run_stage(stage, request, log, timeout):
        requests.append((stage, request))
        named = {field.replace("__", "."): message for field, message in problems.items()}
        return {"problems": named, "slices": dict(slices)}

    monkeypatch.setattr(validate, "run_stage", run_stage)
    return requests


def test_all_specs_are_checked_and_missing_stubs_written(dags, capsys):
    (dags / "mail.yaml").write_text(VALID)
    (dags / "chat.yaml").write_text(VALID)
    assert main(["validate"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{dags / name}.yaml: valid; wrote {dags / name}.py" for name in ("chat", "mail")
    ]
    assert main(["validate", "mail"]) == 0
    assert capsys.readouterr().out == f"{dags / 'mail.yaml'}: valid\n"


def test_one_broken_spec_does_not_hide_another(dags, capsys):
    (dags / "bad.yaml").write_text("data: {source: a.csv, text: b, lable: c}\n")
    (dags / "mail.yaml").write_text(VALID)
    assert main(["validate"]) == 2
    shown = capsys.readouterr().out
    assert f"{dags / 'bad.yaml'}:1: data.lable: unknown key; did you mean 'label'?" in shown
    assert f"{dags / 'mail.yaml'}: valid" in shown
    assert not (dags / "bad.py").exists()


def test_a_python_file_in_the_way_of_the_stub_is_said(dags, capsys):
    (dags / "mail.yaml").write_text(VALID)
    (dags / "mail.py").write_text("mine = 1")
    assert main(["validate"]) == 2
    assert "is not a stub: mail.yaml has no DAG" in capsys.readouterr().out


def test_no_spec_at_all_is_an_error(dags, capsys):
    assert main(["validate"]) == 2
    assert "no spec NAME.yaml" in capsys.readouterr().err


def test_what_training_refuses_is_named_with_its_line_in_the_spec(dags, capsys, monkeypatch):
    requests = answer_of_check(monkeypatch, arguments__learning_rate="expected a number", trainer="cannot be imported")
    spec = dags / "mail.yaml"
    spec.write_text(VALID + "train:\n  arguments:\n    seed: 1\n    learning_rate: fast\n  trainer: acme:Focal\n")
    assert main(["validate"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{spec}:5: train.arguments.learning_rate: expected a number",
        f"{spec}:6: train.trainer: cannot be imported",
    ]
    [(stage, request)] = requests
    assert (stage, request.arguments, request.trainer) == ("check", {"seed": 1, "learning_rate": "fast"}, "acme:Focal")
    assert not (dags / "mail.py").exists()


def test_what_the_condition_of_a_slice_lacks_is_named_with_its_line(dags, capsys, monkeypatch):
    requests = answer_of_check(monkeypatch, slices={"b": "no column 'nope'."})
    spec = dags / "mail.yaml"
    spec.write_text(
        "data: {source: a.csv, text: b, label: c, keep: [region]}\n"
        "gate:\n  slices:\n    a: {label: x}\n    b:\n      where: nope = 1\n"
    )
    assert main(["validate"]) == 2
    assert capsys.readouterr().out == f"{spec}:6: gate.slices.b.where: no column 'nope'.\n"
    [(_stage, request)] = requests
    assert (request.slices, request.keep) == ({"b": {"where": "nope = 1"}}, ["region"])


def test_slices_without_a_condition_need_no_training_environment(dags, capsys):
    (dags / "mail.yaml").write_text(VALID + "gate: {slices: {a: {label: x}}}\n")
    assert main(["validate"]) == 0


def test_conditions_are_checked_by_the_database_that_asks_them(dags, capsys, monkeypatch):
    from ratchet.cli.stage import run_stage

    monkeypatch.setattr(validate, "run_stage", run_stage)
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PYTHON", training_python())
    spec = dags / "mail.yaml"
    spec.write_text(VALID + "gate:\n  slices:\n    a: {where: 'length(txt) > 3'}\n    b: {where: text = 'x'}\n")
    assert main(["validate"]) == 2
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{spec}:4: gate.slices.a.where: no column 'txt'; did you mean 'text'?")


def test_behavioural_tests_are_checked_with_their_spec(dags, capsys):
    (dags / "mail.yaml").write_text(VALID)
    tests = dags / "mail.behaviour.yaml"
    tests.write_text("minimum: {a: {label: x, texts: [y]}}\n")
    assert main(["validate"]) == 0
    assert capsys.readouterr().out == f"{dags / 'mail.yaml'}: valid; wrote {dags / 'mail.py'}\n"
    tests.write_text("minimum: {a: {label: x}}\n")
    assert main(["validate"]) == 2
    assert capsys.readouterr().out.startswith(f"{tests}:1: minimum.a: expected texts")


def test_behavioural_tests_of_no_pipeline_are_said(dags, capsys):
    (dags / "mail.yaml").write_text(VALID)
    (dags / "mial.behaviour.yaml").write_text("minimum: {a: {label: x, texts: [y]}}\n")
    assert main(["validate"]) == 2
    shown = capsys.readouterr().out
    assert f"{dags / 'mial.behaviour.yaml'}:1: there is no spec mial.yaml, so nobody runs these tests" in shown
    assert main(["validate", "mail"]) == 0


def test_a_training_environment_that_cannot_be_started_is_not_taken_for_valid(dags, capsys, monkeypatch):
    def run_stage(*_, **__):
        raise BadInput("The training environment's interpreter '/nowhere' cannot be started")

    monkeypatch.setattr(validate, "run_stage", run_stage)
    (dags / "mail.yaml").write_text(VALID + "train: {arguments: {seed: 1}}\n")
    assert main(["validate"]) == 2
    assert "'/nowhere' cannot be started" in capsys.readouterr().out


def test_arguments_are_checked_against_the_installed_transformers(dags, capsys, monkeypatch):
    from ratchet.cli.stage import run_stage

    monkeypatch.setattr(validate, "run_stage", run_stage)
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PYTHON", training_python())
    spec = dags / "mail.yaml"
    spec.write_text(VALID + "train:\n  arguments: {num_train_epoch: 3, learning_rate: 1e-4, output_dir: x}\n")
    assert main(["validate"]) == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{spec}:3: train.arguments.num_train_epoch: ")
    assert first.endswith("did you mean 'num_train_epochs'?")
    assert second.startswith(f"{spec}:3: train.arguments.output_dir: not for a spec to set")


def test_a_trainer_whose_import_never_ends_is_named_after_a_while(dags, capsys, monkeypatch):
    from ratchet.cli.stage import run_stage

    monkeypatch.setattr(validate, "run_stage", run_stage)
    monkeypatch.setattr(validate, "CHECK_TIMEOUT", timedelta(seconds=30))
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PYTHON", training_python())
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PATH", str(dags))
    (dags / "acme.py").write_text("import time; time.sleep(600)")
    (dags / "mail.yaml").write_text(VALID + "train: {trainer: acme:Focal}\n")
    assert main(["validate", "mail"]) == 2
    shown = capsys.readouterr().out
    assert "train could not be checked. check did not end within 30 s and was stopped." in shown
    assert "Importing the module 'acme' of train.trainer." in shown


def test_two_pipelines_on_one_endpoint_are_both_refused(dags, capsys):
    (dags / "a_b.yaml").write_text(VALID)
    (dags / "a-b.yaml").write_text(VALID)
    assert main(["validate"]) == 2
    shown = capsys.readouterr().out
    assert "a-b.yaml deploys to 'a-b' as well" in shown
    assert "a_b.yaml deploys to 'a-b' as well" in shown


NOTIFIER = """
from airflow.sdk import BaseNotifier

class Chat(BaseNotifier):
    def __init__(self, room):
        super().__init__()

    def notify(self, context):
        pass
"""


def test_a_notifier_is_imported_and_asked_for_its_arguments(dags, capsys):
    (dags / "our_chat.py").write_text(NOTIFIER)
    notify = "notify:\n  - {notifier: our_chat.Chat, arguments: {room: a}}\n"
    (dags / "mail.yaml").write_text(VALID + notify)
    assert main(["validate", "mail"]) == 0
    (dags / "mail.yaml").write_text(
        VALID + notify + "  - {notifier: our_chat.Chat, arguments: {rom: a}}\n  - {notifier: no.Such}\n"
    )
    assert main(["validate", "mail"]) == 2
    shown = capsys.readouterr().out
    where = f"{dags / 'mail.yaml'}"
    assert f"{where}:4: notify.1.notifier: our_chat.Chat does not take these arguments: missing a required" in shown
    assert f"{where}:5: notify.2.notifier: no.Such cannot be imported (No module named 'no')" in shown
