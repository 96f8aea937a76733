"""Check what a spec hands to ``transformers.Trainer`` against the installed version, before anything is trained."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import types
import typing
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Union

from training.contract import BadInput, CheckRequest, CheckResult
from training.credentials import masked
from training.slices import slice_problems

if TYPE_CHECKING:
    from transformers import Trainer

log = logging.getLogger(__name__)

_TRACKING = "Ratchet logs the run to MLflow"
_HUB = "a candidate goes to the store and the model registry and nowhere else"
_CHECKPOINTS = "Ratchet writes the checkpoints from which a retry continues"
_SELECTION = "Ratchet evaluates after each epoch and keeps the best one by the validation split"
_LOGS = "Ratchet reports progress"
_COLUMNS = "Ratchet prepares the columns"
_LAUNCH = "torchrun sets it"

# Arguments that the stage sets itself: another value would break resuming, tracking or the choice of the best epoch.
OWNED: dict[str, str] = {
    "output_dir": _CHECKPOINTS,
    **dict.fromkeys(("report_to", "run_name", "project"), _TRACKING),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), _TRACKING),
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"), _HUB),
    **dict.fromkeys(("hub_always_push", "hub_revision"), _HUB),
    **dict.fromkeys(("save_strategy", "save_steps", "save_only_model", "save_total_limit"), _CHECKPOINTS),
    **dict.fromkeys(("save_on_each_node", "enable_jit_checkpoint", "resume_from_checkpoint"), _CHECKPOINTS),
    **dict.fromkeys(("ignore_data_skip", "restore_callback_states_from_checkpoint"), _CHECKPOINTS),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_delay"), _SELECTION),
    **dict.fromkeys(("eval_on_start", "load_best_model_at_end", "metric_for_best_model"), _SELECTION),
    **dict.fromkeys(("greater_is_better", "prediction_loss_only", "batch_eval_metrics"), _SELECTION),
    **dict.fromkeys(("include_for_metrics", "eval_do_concat_batches", "eval_use_gather_object"), _SELECTION),
    **dict.fromkeys(("disable_tqdm", "log_level", "log_level_replica", "log_on_each_node"), _LOGS),
    **dict.fromkeys(("remove_unused_columns", "label_names", "length_column_name"), _COLUMNS),
    "local_rank": _LAUNCH,
}

# Names of transformers 4 that many examples still use; no spelling leads from them to the new ones.
RENAMED = {
    "warmup_ratio": "warmup_steps, which is a share of all steps when it is below 1",
    "group_by_length": "train_sampling_strategy: group_by_length",
    "no_cuda": "use_cpu",
}

POSITIVE = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)


def checked_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """
    :return: ``arguments``, each a field of the installed ``TrainingArguments`` with a value of its type.
    :raises BadInput: everything that is wrong with them.
    """
    if problems := argument_problems(arguments):
        raise BadInput("\n".join(f"train.arguments.{name}: {message}" for name, message in problems.items()))
    return dict(arguments)


def argument_problems(arguments: dict[str, Any]) -> dict[str, str]:
    """:return: argument to what is wrong with it. Values of refused arguments are not repeated: one may be a token."""
    from transformers import TrainingArguments

    known = {field.name: field for field in fields(TrainingArguments) if field.init}
    hints = typing.get_type_hints(TrainingArguments)
    problems = {}
    for name, value in arguments.items():
        if name in OWNED:
            problems[name] = f"not for a spec to set: {OWNED[name]}."
        elif name in RENAMED and name not in known:
            problems[name] = f"not a TrainingArguments field of the installed transformers; use {RENAMED[name]}."
        elif name not in known:
            problems[name] = f"not a TrainingArguments field of the installed transformers; {_nearest(name, known)}"
        elif not _accepts(hints[name], value):
            problems[name] = f"expected {_expected(hints[name])}, found {json.dumps(value)}."
        elif name in POSITIVE and value <= 0:
            problems[name] = f"expected a number above 0, found {json.dumps(value)}."
    return problems


def trainer_class(reference: str) -> type[Trainer]:
    """
    :param reference: ``module:Class``.
    :raises BadInput: it cannot be imported here or is no Trainer.
    """
    from transformers import Trainer

    module, _, name = reference.partition(":")
    log.info("Importing the module %r of train.trainer.", module)  # if nothing follows, this is what does not end
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever the module does when it is imported
        raise BadInput(
            f"train.trainer: {module!r} cannot be imported in the training environment "
            f"({type(error).__name__}: {masked(str(error))}). Install or mend it there."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Trainer)):
        raise BadInput(f"train.trainer: {reference!r} is no subclass of transformers.Trainer, or does not exist.")
    return found


def check(request: CheckRequest) -> CheckResult:
    """Say what training and evaluation would refuse, without data, model or work directory."""
    wrong = argument_problems(request.arguments) if request.arguments else {}  # which imports transformers
    problems = {f"arguments.{name}": message for name, message in wrong.items()}
    if request.trainer:
        try:
            trainer_class(request.trainer)
        except BadInput as error:
            problems["trainer"] = str(error).removeprefix("train.trainer: ")
    return CheckResult(problems=problems, slices=slice_problems(request.slices, request.keep))


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, [each for each in known if each not in OWNED], n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else "its documentation lists the valid ones."


def _options(hint: Any) -> list[Any]:
    """:return: the alternatives of a type. Text beside an enumeration means one of its values, so it is left out."""
    options = list(typing.get_args(hint)) if typing.get_origin(hint) in (Union, types.UnionType) else [hint]
    if any(isinstance(option, type) and issubclass(option, Enum) for option in options):
        options.remove(str)
    return options


def _accepts(hint: Any, value: Any) -> bool:
    return any(_is_one(option, value) for option in _options(hint))


def _is_one(option: Any, value: Any) -> bool:
    origin = typing.get_origin(option) or option
    if option is Any:
        return True
    if origin is Literal:
        return any(value is allowed or value == allowed for allowed in typing.get_args(option))
    if isinstance(value, bool) or option is bool:
        return option is bool and isinstance(value, bool)
    if option is float:
        return isinstance(value, int | float)
    if issubclass(origin, Enum):
        return value in [member.value for member in origin]
    return isinstance(value, origin)


WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "keys and values",
    type(None): "null",
}


def _expected(hint: Any) -> str:
    words = []
    for option in _options(hint):
        origin = typing.get_origin(option) or option
        if isinstance(origin, type) and issubclass(origin, Enum):
            words.append("one of " + ", ".join(str(member.value) for member in origin))
        elif origin is Literal:
            words += [str(value).lower() for value in typing.get_args(option)]
        else:
            words.append(WORDS.get(origin, f"a {getattr(origin, '__name__', origin)} (not possible in YAML)"))
    return " or ".join(words)
