"""Score the candidate and the champion on the same test set and write down everything the gate needs."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, EvaluateRequest, EvaluateResult, Tracking
from training.forgotten import Forgotten
from training.keys import Records, code_version, key_of
from training.model import LocalModel, find_model
from training.store import Store
from training.testset import TestSet, read_test_set
from training.text import text_hash

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

SCORED_BEFORE = "hit: each of these models was scored on this test set before"
PREDICTIONS = "predictions.parquet"
CLEAR_MARGIN = 0.1  # assumed: a lead that no serving precision turns round, so that a golden example tests the release
SHORT_TEXT = 1000  # characters; assumed: shorter ones cost a smoke test nothing worth choosing by


def evaluate(request: EvaluateRequest) -> EvaluateResult:
    """
    Write the evaluation report, the predictions and the golden examples to the store.

    A finished evaluation of the same models, test set and code is returned as it is, and a model that was scored on
    this test set before is not scored again: comparing with the same champion costs what the candidate costs.

    :raises BadInput: a model or the test set cannot be used; nothing was written.
    """
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    inputs = _resolve(request, forgotten)
    parts = _parts(inputs, request)
    key = key_of(parts)
    records = Records(store, "evaluate")
    place = f"evaluations/{key}"
    found, why = records.look_up(
        key, parts, request.pipeline, lambda _found: store.is_complete(place), force=request.force
    )
    if found is not None:
        return EvaluateResult(**found, key=key, hit=True, why=why)
    candidate, champion, scored = _answer(store, inputs, request, forgotten)
    why = why if scored else SCORED_BEFORE
    log.info("%s", why)
    report = _report(inputs.test_set, candidate, champion)
    golden = golden_examples(inputs.test_set, candidate.labels, candidate.scores, request.golden_examples)
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch)
        (local / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
        (local / "golden.json").write_text(json.dumps(golden, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        with forgotten.while_writing(store):
            store.put_directory(local, place, parts, overwrite=request.force)
    if request.tracking:
        _log_to_mlflow(inputs.candidate.name, report, request.tracking)
    result = {
        "report": store.uri(f"{place}/report.json"),
        "golden": store.uri(f"{place}/golden.json"),
        "rows": len(inputs.test_set.texts),
        "metrics": report["candidate"]["metrics"],
        "champion_metrics": report["champion"] and report["champion"]["metrics"],
    }
    records.write(key, parts, result, request.pipeline)
    return EvaluateResult(**result, key=key, hit=not scored, why=why)


def evaluate_parts(request: EvaluateRequest) -> dict[str, Any]:
    """:return: what the key of this evaluation is made of. Reads the models and the test set, writes nothing."""
    return _parts(_resolve(request, Forgotten.read(Store(request.store))), request)


@dataclass(frozen=True)
class _Inputs:
    candidate: LocalModel
    champion: LocalModel | None
    test_set: TestSet


def _resolve(request: EvaluateRequest, forgotten: Forgotten) -> _Inputs:
    return _Inputs(
        find_model(request.candidate, request.work, request.tracking),
        find_model(request.champion, request.work, request.tracking) if request.champion else None,
        read_test_set(request.test_set, request.text, request.label, leave_out=forgotten.has),
    )


def _parts(inputs: _Inputs, request: EvaluateRequest) -> dict[str, Any]:
    def named(model: LocalModel | None) -> dict[str, str] | None:
        # the name too: the report says which registered version may be promoted, not only which weights
        return None if model is None else {"name": model.name, "digest": model.digest}

    return {
        "candidate": named(inputs.candidate),
        "champion": named(inputs.champion),
        "test_set": inputs.test_set.digest,
        "batch_size": request.batch_size,
        "golden_examples": request.golden_examples,
        "code": code_version(),
    }


@dataclass(frozen=True)
class _Answers:
    """What one model says to every row of the test set."""

    model: LocalModel
    labels: tuple[str, ...]  # in the order of the model's ids
    scores: np.ndarray  # (n_rows, n_labels)
    uri: str  # where they are kept

    @property
    def predictions(self) -> list[str]:
        return [self.labels[i] for i in self.scores.argmax(axis=1)]


def _answer(
    store: Store, inputs: _Inputs, request: EvaluateRequest, forgotten: Forgotten
) -> tuple[_Answers, _Answers | None, bool]:
    """:return: the answers of the candidate and of the champion, if any, and whether a model had to be scored."""
    test_set = inputs.test_set
    log.info("test set: %d rows, %d labels, from %s", len(test_set.texts), len(set(test_set.labels)), test_set.uri)
    candidate, scored = _score(store, inputs.candidate, "candidate", test_set, request, forgotten)
    if unknown := _unknown_labels(candidate, test_set):
        raise BadInput(
            f"{test_set.uri} has labels that the candidate {inputs.candidate.name} does not know: {_some(unknown)}; "
            f"it knows {_some(candidate.labels)}. Train it on them, or leave these rows out."
        )
    if inputs.champion is None:
        return candidate, None, scored
    if inputs.champion.digest == inputs.candidate.digest:
        log.info("champion: the same weights as the candidate, not scored again")
        return candidate, replace(candidate, model=inputs.champion), scored
    champion, scored_too = _score(store, inputs.champion, "champion", test_set, request, forgotten)
    if unknown := _unknown_labels(champion, test_set):
        log.warning("The champion does not know %s; rows with these labels count against it.", _some(unknown))
    return candidate, champion, scored or scored_too


def _report(test_set: TestSet, candidate: _Answers, champion: _Answers | None) -> dict[str, Any]:
    labels = sorted({*test_set.labels, *candidate.labels, *(champion.labels if champion else ())})
    report: dict[str, Any] = {
        "test_set": {
            "uri": test_set.uri,
            "digest": test_set.digest,
            "rows": len(test_set.texts),
            "labels": labels,
        },
        "candidate": _measured(candidate, test_set, labels),
        "champion": _measured(champion, test_set, labels) if champion else None,
        "predictions": {"candidate": candidate.uri, "champion": champion.uri if champion else None},
    }
    for role in ("candidate", "champion"):
        if report[role]:
            log.info("%s: %s", role, ", ".join(f"{name} {value}" for name, value in report[role]["metrics"].items()))
    return report


def _score(
    store: Store, model: LocalModel, role: str, test_set: TestSet, request: EvaluateRequest, forgotten: Forgotten
) -> tuple[_Answers, bool]:
    """:return: the model's answers, and whether it had to be asked: they are kept by model, test set and code."""
    parts = {
        "model": model.digest,
        "test_set": test_set.digest,
        "batch_size": request.batch_size,
        "code": code_version(),
    }
    place = f"predictions/{key_of(parts)}"
    if not request.force and store.is_complete(place):
        kept = _read_predictions(store, place, model)
        if len(kept.scores) == len(test_set.texts):
            log.info("%s %s was scored on this test set before", role, model.name)
            return kept, False
        log.info("%s %s is scored again: rows of the kept answers were forgotten", role, model.name)

    from training.classifier import load_classifier

    classifier = load_classifier(model.path, f"{role} {model.name}")
    scores = classifier.score(test_set.texts, request.batch_size)
    answers = _Answers(model, classifier.labels, scores, store.uri(f"{place}/{PREDICTIONS}"))
    with tempfile.TemporaryDirectory() as scratch:
        _write_predictions(Path(scratch) / PREDICTIONS, answers, test_set)
        with forgotten.while_writing(store):
            store.put_directory(Path(scratch), place, parts, overwrite=True)
    return answers, True


def _unknown_labels(answers: _Answers, test_set: TestSet) -> list[str]:
    return sorted({*test_set.labels} - {*answers.labels})


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:5]))
    return shown if len(labels) <= 5 else f"{shown} and {len(labels) - 5} more"


def _measured(answers: _Answers, test_set: TestSet, labels: list[str]) -> dict[str, Any]:
    """Labels are matched by name: two models may have them in any order."""
    import numpy as np

    from training.metrics import measure

    index = {label: i for i, label in enumerate(labels)}
    scores = np.zeros((len(test_set.texts), len(labels)))
    scores[:, [index[label] for label in answers.labels]] = answers.scores
    truth = np.array([index[label] for label in test_set.labels])
    predicted = np.array([index[label] for label in answers.predictions])
    return {
        "model": answers.model.name,
        "digest": answers.model.digest,
        **measure(truth, predicted, scores, labels),
        "unknown_labels": _unknown_labels(answers, test_set),
    }


def _write_predictions(path: Path, answers: _Answers, test_set: TestSet) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "text_sha256": [text_hash(text) for text in test_set.texts],
            "label": test_set.labels,
            "prediction": answers.predictions,
            "scores": pa.array(answers.scores.tolist(), type=pa.list_(pa.float64())),
        }
    ).replace_schema_metadata({"labels": json.dumps(answers.labels)})  # the order of the scores
    pq.write_table(table, path, compression="zstd")


def _read_predictions(store: Store, place: str, model: LocalModel) -> _Answers:
    import numpy as np
    import pyarrow.parquet as pq

    with store.open(f"{place}/{PREDICTIONS}") as file:
        table = pq.read_table(file)
    labels = json.loads(table.schema.metadata[b"labels"])
    scores = np.array(table.column("scores").to_pylist(), dtype=np.float64).reshape(-1, len(labels))
    return _Answers(model, tuple(labels), scores, store.uri(f"{place}/{PREDICTIONS}"))


def golden_examples(test_set: TestSet, labels: Sequence[str], scores: np.ndarray, count: int) -> dict[str, list[Any]]:
    """
    Choose texts whose answers a release must repeat: every label in turn, clear answers first, the same ones each time.

    Of equals the short texts come first: a smoke test has to be over soon, also on a slow processor.

    :param scores: (n_rows, n_labels), in the order of ``labels``.
    """
    import numpy as np

    best = np.sort(scores, axis=1)
    near_tie = best[:, -1] - best[:, -2] < CLEAR_MARGIN
    by_label: dict[str, list[int]] = {}
    first = {text: row for row, text in reversed(list(enumerate(test_set.texts)))}

    def preference(row: int) -> tuple[bool, int, str]:
        text = test_set.texts[row]
        return bool(near_tie[row]), max(len(text), SHORT_TEXT), text_hash(text)

    for row in sorted(first.values(), key=preference):
        by_label.setdefault(test_set.labels[row], []).append(row)
    turns = sorted((turn, label, row) for label, rows in by_label.items() for turn, row in enumerate(rows))
    chosen = [row for _turn, _label, row in turns[:count]]
    return {
        "texts": [test_set.texts[row] for row in chosen],
        "labels": [labels[i] for i in scores[chosen].argmax(axis=1)],
        "scores": [[score if np.isfinite(score) else None for score in row] for row in scores[chosen].tolist()],
    }


def _log_to_mlflow(candidate: str, report: dict[str, Any], tracking: Tracking) -> None:
    """Add the test metrics and the report to the run that made the candidate. Safe to repeat."""
    if not candidate.startswith("models:/"):
        log.info("%s is not a registered version, so it has no MLflow run to log the report to.", candidate)
        return
    from training.patience import connect, patiently

    client = connect(tracking)
    name, version = candidate.removeprefix("models:/").rsplit("/", 1)

    def send() -> None:
        run_id = client.get_model_version(name, version).run_id
        if not run_id:
            log.info("%s was registered without a run; its report is in the store alone.", candidate)
            return
        for metric, value in report["candidate"]["metrics"].items():
            if value is not None:
                client.log_metric(run_id, f"test_{metric}", value)
        client.log_dict(run_id, report, "evaluation/report.json")

    patiently(send)
