from __future__ import annotations

import sys
from dataclasses import fields

import pytest
from transformers import Trainer, TrainingArguments

from training.arguments import OWNED, POSITIVE, RENAMED, check, checked_arguments, trainer_class
from training.contract import BadInput, CheckRequest


def test_good_arguments_come_back_as_they_were():
    given = {
        "learning_rate": 1e-4,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 16,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"num_cycles": 1},
        "optim": "adamw_torch",
        "optim_target_modules": ["query"],
        "bf16": True,
        "tf32": None,
        "seed": 7,
    }
    assert checked_arguments(given) == given


@pytest.mark.parametrize("field", [f.name for f in fields(TrainingArguments) if f.name not in OWNED])
def test_the_default_of_every_field_a_spec_may_set_is_accepted(field):
    # the arguments as transformers itself would write them to JSON
    checked_arguments({field: TrainingArguments(output_dir="unused").to_dict()[field]})


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("num_train_epoch", 3, "did you mean 'num_train_epochs'?"),
        ("zzzz", 3, "not a TrainingArguments field of the installed transformers"),
        ("warmup_ratio", 0.1, "use warmup_steps, which is a share"),
        ("group_by_length", True, "use train_sampling_strategy: group_by_length"),
        ("no_cuda", True, "use use_cpu"),
        ("learning_rate", "1e-4", 'expected a number, found "1e-4"'),
        ("learning_rate", True, "expected a number, found true"),
        ("learning_rate", None, "expected a number, found null"),
        ("learning_rate", 0, "expected a number above 0, found 0"),
        ("num_train_epochs", -1, "expected a number above 0, found -1"),
        ("per_device_train_batch_size", 1.5, "expected a whole number, found 1.5"),
        ("bf16", 1, "expected true or false, found 1"),
        ("tf32", "yes", 'expected true or false or null, found "yes"'),
        ("lr_scheduler_type", "cosin", "expected one of linear, cosine, "),
        ("optim", 3, "expected one of adamw_torch"),
        ("lr_scheduler_kwargs", [1], "expected keys and values or text or null, found [1]"),
        ("parallelism_config", {}, "ParallelismConfig (not possible in YAML) or null"),
        ("output_dir", "x", "not for a spec to set: Ratchet writes the checkpoints"),
        ("save_strategy", "no", "not for a spec to set: Ratchet writes the checkpoints"),
        ("eval_strategy", "no", "not for a spec to set: Ratchet evaluates after each epoch"),
        ("report_to", "wandb", "not for a spec to set: Ratchet logs the run to MLflow"),
        ("push_to_hub", True, "not for a spec to set: a candidate goes to the store"),
        ("_n_gpu", 1, "not a TrainingArguments field"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_was_expected(argument, value, message):
    with pytest.raises(BadInput) as caught:
        checked_arguments({argument: value})
    assert str(caught.value).startswith(f"train.arguments.{argument}: ")
    assert message in str(caught.value)


def test_every_wrong_argument_is_named_at_once():
    with pytest.raises(BadInput) as caught:
        checked_arguments({"learning_rate": "x", "seed": 1, "zzzz": 1})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "train.arguments.learning_rate",
        "train.arguments.zzzz",
    ]


def test_a_token_is_never_repeated():
    with pytest.raises(BadInput) as caught:
        checked_arguments({"hub_token": "hf_secret", "hub_tokn": "hf_secret", "api_key": "hf_secret"})
    assert "hf_secret" not in str(caught.value)


def test_what_ratchet_owns_are_fields_of_the_installed_transformers():
    names = {field.name for field in fields(TrainingArguments)}
    assert set(OWNED) <= names
    assert set(POSITIVE) <= names
    assert not set(RENAMED) & names


def test_a_trainer_subclass_is_found(tmp_path, monkeypatch):
    (tmp_path / "acme_focal.py").write_text("from transformers import Trainer\nclass Focal(Trainer): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert issubclass(trainer_class("acme_focal:Focal"), Trainer)
    del sys.modules["acme_focal"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("acme.nothing:Focal", "'acme.nothing' cannot be imported in the training environment"),
        ("acme_broken:Focal", "RuntimeError: no licence"),
        ("json:JSONDecoder", "is no subclass of transformers.Trainer"),
        ("json:Nothing", "is no subclass of transformers.Trainer, or does not exist"),
    ],
)
def test_a_trainer_that_cannot_be_used_is_refused_with_the_reason(tmp_path, monkeypatch, reference, message):
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"train\.trainer: ") as caught:
        trainer_class(reference)
    assert message in str(caught.value)


def test_what_a_trainers_module_says_gives_no_secret_away(tmp_path, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "hunter2hunter2")
    (tmp_path / "acme_telling.py").write_text(
        "import os\nraise KeyError('licence', os.environ['VAULT_TOKEN'], 'x://me:hunter2/hunter2@db/models')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = check(CheckRequest(trainer="acme_telling:Focal")).problems.values()
    assert "KeyError: ('licence', '***', 'x://***@db/models')" in problem


def test_the_check_stage_names_fields_of_the_train_section():
    problems = check(CheckRequest(arguments={"bf16": 1, "seed": 1}, trainer="json:JSONDecoder")).problems
    assert list(problems) == ["arguments.bf16", "trainer"]
    assert check(CheckRequest()).problems == {}
