import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the training environment")

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormForSequenceClassification,
    Trainer,
)

from tests.tiny import tiny_checkpoint, tiny_tokenizer
from tests.training import lab
from training import checkpoints, loop
from training import train as stage
from training.contract import BadInput, Tracking, Unreachable
from training.examples import count_tokens, token_limit
from training.forgotten import Forgotten
from training.keys import key_of, locked
from training.store import Store
from training.text import identity_of
from training.train import train, train_parts

pytestmark = pytest.mark.filterwarnings("default")  # of torch and transformers: theirs to mend


@pytest.fixture(scope="session")
def base_model(tmp_path_factory):
    directory = tiny_checkpoint(tmp_path_factory.mktemp("base"))
    (directory / "README.md").write_text("---\nlicense: mit\n---\n")
    return directory


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.setenv(lab.LOG, str(tmp_path / "steps"))
    (tmp_path / "steps").touch()
    return lab.WATCHED


@pytest.fixture(scope="session")
def undisturbed_digest(base_model, tmp_path_factory):
    """Of the model that the same request makes when nothing goes wrong; the class that watches changes no weight."""
    return train(lab.request_for(tmp_path_factory.mktemp("undisturbed"), base_model)).digest


def checkpoint(result):
    return Path(result.model.removeprefix("file://"))


def test_the_model_has_learned_and_knows_its_labels(tmp_path, base_model):
    result = train(lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 8}))
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint(result))
    assert result.metrics["eval_accuracy"] > 0.9
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= {
        path.name for path in checkpoint(result).iterdir()
    }
    assert not list(checkpoint(result).glob("*.bin")) + list(checkpoint(result).glob("*.pt*"))
    assert json.loads((checkpoint(result) / "manifest.json").read_text())["training"]["license"] == "mit"


def test_a_second_run_trains_nothing_and_says_why(tmp_path, base_model, watched):
    request = lab.request_for(tmp_path, base_model, trainer=watched)
    first = train(request)
    steps = lab.steps_trained()
    second = train(request)
    assert lab.steps_trained() == steps
    assert (first.hit, second.hit) == (False, True)
    assert second.why.startswith("hit: ")
    assert dataclasses.replace(second, hit=False, why=first.why) == first


def test_a_changed_argument_is_named_as_the_reason(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 1})
    train(request)
    changed = dataclasses.replace(request, arguments={**request.arguments, "num_train_epochs": 2})
    assert train(changed).why == "miss: arguments.num_train_epochs 1 -> 2"


def test_a_model_that_is_gone_from_the_store_is_trained_again(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model)
    first = train(request)
    shutil.rmtree(checkpoint(first))
    again = train(request)
    assert (again.hit, again.digest) == (False, first.digest)


def test_a_damaged_model_in_the_store_is_mended_by_training_again(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model)
    first = train(request)
    weights = checkpoint(first) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not train(request).hit
    assert weights.read_bytes() == whole


def test_an_empty_note_of_finished_training_that_a_power_cut_left_is_none(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 1})
    work = tmp_path / "work" / "train" / key_of(train_parts(request))
    work.mkdir(parents=True)
    (work / "trained.json").touch()
    (work / "journal.jsonl").write_bytes(b"\xff\xfe\x00")
    assert checkpoint(train(request)).is_dir()


def test_a_crash_within_an_epoch_costs_no_finished_epoch_and_changes_no_weight(
    tmp_path, base_model, watched, monkeypatch, undisturbed_digest
):
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    monkeypatch.setenv(lab.CRASH, "15")
    with pytest.raises(OSError, match="disk is full"):
        train(request)
    monkeypatch.delenv(lab.CRASH)
    resumed = train(request)
    assert lab.steps_trained() == [*range(15), *range(12, 18)]
    assert resumed.digest == undisturbed_digest


def test_within_a_long_epoch_training_continues_where_it_was(
    tmp_path, base_model, watched, monkeypatch, undisturbed_digest
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # after every step
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    monkeypatch.setenv(lab.CRASH, "9")
    with pytest.raises(OSError, match="disk is full"):
        train(request)
    monkeypatch.delenv(lab.CRASH)
    resumed = train(request)
    assert lab.steps_trained() == [*range(9), *range(9, 18)]
    assert resumed.digest == undisturbed_digest


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path, base_model, watched, monkeypatch, undisturbed_digest
):
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    monkeypatch.setenv(lab.CRASH, "15")
    with pytest.raises(OSError, match="disk is full"):
        train(request)
    monkeypatch.delenv(lab.CRASH)
    (last,) = (tmp_path / "b").rglob("checkpoint-12")
    weights = last / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    resumed = train(request)
    assert lab.steps_trained() == [*range(15), *range(6, 18)]
    assert resumed.digest == undisturbed_digest


def test_a_kill_before_a_checkpoint_is_vouched_for_costs_none_before_it(
    tmp_path, base_model, watched, monkeypatch, undisturbed_digest
):
    def killed(directory):
        if directory.name == "checkpoint-18":
            raise SystemExit
        mark_complete(directory)

    mark_complete = checkpoints.mark_complete
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    with monkeypatch.context() as kill:
        kill.setattr(checkpoints, "mark_complete", killed)
        with pytest.raises(SystemExit):
            train(request)
    resumed = train(request)
    assert lab.steps_trained() == [*range(18), *range(12, 18)]
    assert resumed.digest == undisturbed_digest


def test_a_disk_that_is_full_while_a_checkpoint_is_saved_is_named_and_the_half_checkpoint_gives_its_space_back(
    tmp_path, base_model, watched, monkeypatch, undisturbed_digest
):
    def full_disk(state, file, *arguments, **options):
        if "checkpoint-12" in str(file):
            Path(file).write_bytes(b"half of it")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        return save(state, file, *arguments, **options)

    save = torch.save
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    with monkeypatch.context() as full:
        full.setattr(torch, "save", full_disk)
        with pytest.raises(
            OSError, match=r"checkpoint-12 could not be saved .* Its disk had [\d,]+ MB left of [\d,]+ MB"
        ):
            train(request)
    assert [path.name for path in (tmp_path / "b").rglob("checkpoint-*")] == ["checkpoint-6"]
    resumed = train(request)
    assert lab.steps_trained() == [*range(12), *range(6, 18)]
    assert resumed.digest == undisturbed_digest


def test_only_the_best_and_the_last_checkpoint_take_up_room(tmp_path, base_model, monkeypatch):
    kept = []
    copy_model = checkpoints.copy_model

    def noted(checkpoint, target):
        kept.extend(path.name for path in checkpoint.parent.iterdir())
        return copy_model(checkpoint, target)

    monkeypatch.setattr(checkpoints, "copy_model", noted)
    train(lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 6, "learning_rate": 0.05}))
    assert len(kept) == 2
    assert "checkpoint-36" in kept


def test_an_epoch_is_evaluated_although_its_last_step_could_have_been_saved_before(
    tmp_path, base_model, watched, monkeypatch
):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    saved = []
    mark_complete = checkpoints.mark_complete

    def noted(directory):
        state = json.loads((directory / checkpoints.STATE).read_text())
        evaluated = {entry["step"] for entry in state["log_history"] if "eval_loss" in entry}
        saved.append((state["global_step"], state["global_step"] in evaluated))
        mark_complete(directory)

    monkeypatch.setattr(checkpoints, "mark_complete", noted)
    train(lab.request_for(tmp_path, base_model, trainer=watched))
    assert saved == [(step, step % lab.STEPS == 0) for step in range(1, 19)]


def test_after_kill_9_a_retry_ends_with_the_same_model(tmp_path, base_model, watched, undisturbed_digest):
    request = lab.request_for(tmp_path / "b", base_model, trainer=watched)
    (tmp_path / "request.json").write_text(request.to_json())
    command = [sys.executable, "-m", "training", "train", "--in", "request.json", "--out", "result.json"]
    root = Path(__file__).parents[2]
    stage = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), lab.SLOW: "0.1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while 8 not in lab.steps_trained() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.killpg(stage.pid, signal.SIGKILL)
        stage.wait()
    killed_after = len(lab.steps_trained())
    assert killed_after in range(9, 18)
    resumed = train(request)
    again = lab.steps_trained()[killed_after:]
    assert again[0] in (6, 12)  # the first epoch was finished
    assert resumed.digest == undisturbed_digest


def test_finished_training_is_not_repeated_when_only_saving_failed(tmp_path, base_model, watched, monkeypatch):
    def fail(*_):
        raise OSError("the store is away")

    request = lab.request_for(tmp_path, base_model, trainer=watched)
    with monkeypatch.context() as broken:
        broken.setattr("training.train.put_model", fail)
        with pytest.raises(OSError, match="the store is away"):
            train(request)
    train(request)
    assert lab.steps_trained() == [*range(18)]


def test_a_forced_run_trains_anew_and_its_retry_continues(tmp_path, base_model, watched, monkeypatch):
    def fail(*_):
        raise OSError("the store is away")

    request = lab.request_for(tmp_path, base_model, trainer=watched, force=True, run="monday")
    with monkeypatch.context() as broken:
        broken.setattr("training.train.put_model", fail)
        with pytest.raises(OSError, match="the store is away"):
            train(request)
        with pytest.raises(OSError, match="the store is away"):
            train(dataclasses.replace(request, run="tuesday"))
    train(dataclasses.replace(request, run="tuesday"))
    assert lab.steps_trained() == [*range(18), *range(18)]


def test_what_an_earlier_attempt_left_is_not_what_a_forced_run_asked_for(tmp_path, base_model, watched, monkeypatch):
    request = lab.request_for(tmp_path, base_model, trainer=watched)
    with monkeypatch.context() as broken:
        broken.setattr("training.train.clear", lambda _work: None)
        train(request)
    assert train(dataclasses.replace(request, force=True, run="monday")).why == "forced"
    assert lab.steps_trained() == [*range(18), *range(18)]


def test_a_roberta_base_is_given_no_text_longer_than_its_positions():
    # a kind that is not on anybody's list
    config = RobertaPreLayerNormConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=34
    )
    model = RobertaPreLayerNormForSequenceClassification(config)
    tokenizer = type("Tokenizer", (), {"model_max_length": 10**30})
    limit = token_limit(tokenizer, model)
    assert limit == 32
    model(torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        model(torch.full((1, limit + 1), 5))


def test_checkpoints_go_when_the_model_is_safe(tmp_path, base_model):
    train(lab.request_for(tmp_path, base_model))
    left = [path for path in (tmp_path / "work" / "train").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["lock"]


def test_what_killed_attempts_left_a_week_ago_goes_and_nothing_younger_or_in_use(tmp_path, base_model):
    work = tmp_path / "work"
    left = {
        name: [work / "train" / name / "lock", work / "train" / name / "checkpoint-6" / "model.safetensors"]
        for name in ("old", "young", "in use")
    }
    left["download"] = [work / "models" / "mlflow" / ".part-x" / "model.safetensors"]
    left["young download"] = [work / "models" / ".part-y" / "model.safetensors"]
    eight_days_ago = time.time() - 8 * 24 * 3600
    for name, paths in left.items():
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            if not name.startswith("young"):
                for old in (path, path.parent):
                    os.utime(old, (eight_days_ago, eight_days_ago))
    with locked(work / "train" / "in use"):
        os.utime(work / "train" / "in use" / "lock", (eight_days_ago, eight_days_ago))
        train(lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 1}))
    assert {name for name, paths in left.items() if paths[-1].exists()} == {"young", "in use", "young download"}
    assert (work / "train" / "old" / "lock").exists()


def test_the_best_epoch_is_kept_not_the_last(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 6, "learning_rate": 0.05})
    result = train(request)
    history = json.loads((checkpoint(result) / "manifest.json").read_text())["training"]["history"]
    losses = [value for name, value, _step, _time in history if name == "eval_loss"]
    assert len(losses) == 6
    assert result.metrics["eval_loss"] == min(losses) < losses[-1]


def test_training_stops_when_the_validation_loss_no_longer_improves(tmp_path, base_model):
    arguments = {"num_train_epochs": 12, "learning_rate": 0.05}
    result = train(lab.request_for(tmp_path, base_model, arguments=arguments, early_stopping_epochs=1))
    assert result.epochs < 12


def test_a_stopped_run_is_not_continued_by_a_retry(tmp_path, base_model, watched, monkeypatch):
    arguments = {"num_train_epochs": 12, "learning_rate": 0.05}
    request = lab.request_for(tmp_path, base_model, arguments=arguments, early_stopping_epochs=1, trainer=watched)

    def fail(*_):
        raise OSError("the store is away")

    with monkeypatch.context() as broken:
        broken.setattr("training.train.put_model", fail)
        with pytest.raises(OSError):
            train(request)
    steps = lab.steps_trained()
    train(request)
    assert lab.steps_trained() == steps


def test_long_texts_are_cut_alike_in_training_and_by_the_saved_tokenizer(tmp_path, base_model):
    result = train(lab.request_for(tmp_path, base_model, max_length=6))
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(result))
    assert len(tokenizer("the film is a very good film of my book", truncation=True)["input_ids"]) == 6


def test_of_a_huge_text_no_more_is_kept_than_shows_that_it_is_too_long(base_model):
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    huge, short = count_tokens(tokenizer, ["film " * 10_000, "film"], 64, lambda _: None)
    assert len(huge["input_ids"]) == 65
    assert len(short["input_ids"]) < 64


def test_progress_has_the_agreed_form(tmp_path, base_model, watched, monkeypatch, caplog):
    monkeypatch.setattr("training.progress.Progress.__init__.__defaults__", (0.05,))
    monkeypatch.setenv(lab.SLOW, "0.02")
    with caplog.at_level(logging.INFO):
        train(lab.request_for(tmp_path, base_model, trainer=watched))
    lines = [message for message in caplog.messages if message.startswith("progress: ")]
    form = (
        r"progress: \d+% \| step \d+/18 \| epoch \d\.\d\d/3 \| loss (-|\d\.\d{4}) "
        r"\| elapsed \d+s \| left (-|\d+s) \| \d+ samples/s"
    )
    assert len(lines) > 3
    assert [line for line in lines if not re.fullmatch(form, line)] == []


def test_rare_labels_weigh_as_much_as_frequent_ones_when_balanced():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    labels = [0, 0, 0, 1]
    loss = loop.balanced_loss(labels, 2, smoothing=0.0)
    outputs = type("Outputs", (), {"logits": logits})
    each = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
    expected = (each[:3].mean() + each[3]) / 2
    assert loss(outputs, torch.tensor(labels)) == pytest.approx(expected.item())


def test_class_weights_reach_the_trainer(tmp_path, base_model):
    plain = train(lab.request_for(tmp_path / "a", base_model))
    balanced = train(lab.request_for(tmp_path / "b", base_model, class_weights="balanced"))
    assert plain.digest != balanced.digest


def test_rows_of_similar_length_share_a_batch_and_the_order_depends_on_the_epoch_alone():
    lengths = [1 + i % 40 for i in range(400)]
    sampler = loop.LengthGrouped(lengths, batch_size=8, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    assert sorted(first) == sorted(second) == list(range(400))
    spreads = [max(batch) - min(batch) for batch in ([lengths[i] for i in first[s : s + 8]] for s in range(0, 400, 8))]
    assert sum(spreads) / len(spreads) < 5


def test_without_validation_rows_the_last_epoch_is_kept(tmp_path, base_model):
    snapshot = lab.put_snapshot(Store(str(tmp_path / "store")), validation=0)
    result = train(lab.request_for(tmp_path, base_model, snapshot=snapshot))
    assert (result.metrics, result.epochs) == ({}, 3.0)


def test_a_tokenizer_without_a_limit_takes_the_models(tmp_path, base_model):
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    config = base / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": int(1e30)}))
    result = train(lab.request_for(tmp_path, base))
    assert AutoTokenizer.from_pretrained(checkpoint(result)).model_max_length <= 64


def test_a_decoder_without_a_padding_token_is_trained_with_its_end_token(tmp_path):
    from transformers import GPT2Config, GPT2Model

    base = tiny_tokenizer(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.eos_token, tokenizer.pad_token = "[SEP]", None
    tokenizer.save_pretrained(base)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2)
    GPT2Model(config).save_pretrained(base)
    result = train(lab.request_for(tmp_path, base))
    assert AutoTokenizer.from_pretrained(checkpoint(result)).pad_token == "[SEP]"


def test_pickled_weights_are_refused(tmp_path, base_model):
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin.*can run code"):
        train(lab.request_for(tmp_path, base))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"learning_rat": 1}}, "learning_rate"),
        ({"arguments": {"output_dir": "x"}}, "output_dir"),
        ({"arguments": {"learning_rate": 1e9}}, "diverged"),
        ({"trainer": "nowhere_to_be_found:Trainer"}, "nowhere_to_be_found"),
        ({"trainer": "json:loads"}, "no subclass"),
        ({"max_length": 65}, "at most 64"),
        ({"arguments": {"lr_scheduler_type": "cosine_with_min_lr"}}, "min_lr"),
        ({"arguments": {"dataloader_drop_last": True, "per_device_train_batch_size": 64}}, "drops all 48"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(tmp_path, base_model, changes, message):
    with pytest.raises(BadInput, match=message):
        train(lab.request_for(tmp_path, base_model, **changes))


def test_weights_that_are_damaged_are_refused(tmp_path, base_model):
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    (base / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match="not a model that can be fine-tuned"):
        train(lab.request_for(tmp_path, base))


def test_an_edited_trainer_makes_another_model(tmp_path, base_model, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "edited_trainer.py"
    module.write_text("from transformers import Trainer\nclass Ours(Trainer): pass\n")
    request = lab.request_for(tmp_path, base_model, trainer="edited_trainer:Ours")
    before = train_parts(request)
    module.write_text("from transformers import Trainer\nclass Ours(Trainer): pass  # edited\n")
    assert {name for name, value in train_parts(request).items() if value != before[name]} == {"trainer"}


def test_the_key_is_computed_without_torch(tmp_path, base_model):
    request = lab.request_for(tmp_path, base_model)
    (tmp_path / "request.json").write_text(request.to_json())
    code = (
        "import json, sys; from training.contract import TrainRequest; from training.train import train_parts\n"
        "print(train_parts(TrainRequest.from_dict(json.load(open(sys.argv[1]))))['base_model'])\n"
        "sys.exit(' '.join({'torch', 'transformers', 'mlflow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "request.json")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == train_parts(request)["base_model"]


def test_the_watched_trainer_is_a_trainer():
    assert issubclass(lab.WatchedTrainer, Trainer)


def test_what_is_forgotten_during_a_training_is_not_found_as_its_result(tmp_path, base_model, monkeypatch):
    request = lab.request_for(tmp_path, base_model, arguments={"num_train_epochs": 1})
    store = Store(request.store)
    put_model = stage.put_model

    def forgotten_meanwhile(*args):
        Forgotten(frozenset({identity_of("secret")})).write(store)
        return put_model(*args)

    monkeypatch.setattr(stage, "put_model", forgotten_meanwhile)
    with pytest.raises(Unreachable, match="A retry leaves them out"):
        train(request)
    assert [key for key in store.list("keys/train") if key.endswith(".json")] == []
    assert not train(request).hit


def test_what_is_forgotten_before_a_model_is_made_known_keeps_it_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "connect", lambda tracking: None)
    monkeypatch.setattr(stage, "find_version", lambda *args: None)
    request = lab.request_for(tmp_path, tmp_path, tracking=Tracking(uri="", experiment="", model_name="films"))
    store = Store(request.store)
    Forgotten(frozenset({identity_of("secret")})).write(store)
    made = stage.Trained(store.uri("models/1"), "1", {}, 1.0, 1.0)
    with pytest.raises(Unreachable, match="A retry leaves them out"):
        stage._make_known(request, store, "key", made, tmp_path, Forgotten())
