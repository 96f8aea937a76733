"""Ask the candidate, and what it is compared with, about the same test set, and write down all that the gate needs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from training.baseline import ask_baseline, digest_of_answers, require_baseline
from training.behaviour import BehaviourTest, without_examples
from training.contract import BadInput, EvaluateRequest, EvaluateResult, Tracking
from training.examine import Examination, Examined, serving_runtime
from training.forgotten import Forgotten
from training.keys import Records, code_version, key_of
from training.model import LocalModel, find_model
from training.new_rows import new_rows
from training.report import COMPARED
from training.slices import MEMBERSHIP, Group, cut, digest_of, write_membership
from training.store import Store
from training.tags import REPORT_TAG
from training.testset import TestSet, read_test_set

log = logging.getLogger(__name__)

SCORED_BEFORE = "hit: each of these models was scored on this test set before"


def evaluate(request: EvaluateRequest) -> EvaluateResult:
    """
    Write the evaluation report, the answers and the golden examples to the store, and package each model.

    A finished evaluation of the same models, test set and code is returned as it is, and a model that was scored on
    this test set before is not scored again: comparing with the same champion costs what the candidate costs.

    :raises BadInput: a model or the test set cannot be used, or a model cannot be packaged; no report was written.
    """
    store = Store(request.store)
    forgotten = Forgotten.in_force(store)
    inputs = _resolve(request, forgotten)
    parts = _parts(inputs, request)
    key = key_of(parts)
    records = Records(store, "evaluate")
    place = f"evaluations/{key}"
    found, why = records.look_up(
        key, parts, request.pipeline, lambda found: _is_whole(store, place, found), force=request.force
    )
    if found is not None:
        return EvaluateResult(**found, key=key, hit=True, why=why)
    test_set = inputs.test_set
    log.info("test set: %d rows, %d labels, from %s", len(test_set.texts), len(set(test_set.labels)), test_set.uri)
    examination = Examination(store, test_set, request, forgotten)
    roles = _examine(examination, inputs, request)
    why = why if examination.asked else SCORED_BEFORE
    log.info("%s", why)
    report = _report(test_set, roles, request)
    report["slices"] = [group.to_json() for group in inputs.groups]
    report["slices_sha256"] = parts["slices"]
    champion = inputs.champion
    new = None if champion is None else new_rows(store, champion.name, request.tracking, test_set)
    if new is not None:
        report["test_set"]["new_rows"] = int(new.sum())
    has_members = bool(inputs.groups) or new is not None
    report["membership"] = store.uri(f"{place}/{MEMBERSHIP}") if has_members else None
    candidate = roles["candidate"]
    assert candidate is not None
    report["behaviour"] = examination.test_behaviour(candidate, inputs.behaviour)
    with store.scratch("evaluate-") as local:
        (local / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
        golden = json.dumps(candidate.golden, indent=2, allow_nan=False, ensure_ascii=False)
        (local / "golden.json").write_text(golden + "\n")
        if has_members:
            write_membership(local / MEMBERSHIP, test_set, inputs.groups, new)
        with forgotten.while_writing(store):
            store.put_directory(local, place, parts, overwrite=request.force)
    if request.tracking:
        _log_to_mlflow(inputs.candidate.name, report, store.uri(f"{place}/report.json"), request.tracking)
    result = {
        "report": store.uri(f"{place}/report.json"),
        "golden": store.uri(f"{place}/golden.json"),
        "release": (candidate.serving or {}).get("release"),
        "rows": len(test_set.texts),
        "metrics": report["candidate"]["metrics"],
        "champion_metrics": report["champion"] and report["champion"]["metrics"],
    }
    records.write(key, parts, result, request.pipeline)
    return EvaluateResult(**result, key=key, hit=not examination.asked, why=why)


def evaluate_parts(request: EvaluateRequest) -> dict[str, Any]:
    """:return: what the key of this evaluation is made of. Reads the models and the test set, writes nothing."""
    return _parts(_resolve(request, Forgotten.read(Store(request.store))), request)


@dataclass(frozen=True)
class _Inputs:
    candidate: LocalModel
    champion: LocalModel | None
    best: LocalModel | None
    test_set: TestSet
    groups: Sequence[Group]
    behaviour: Sequence[BehaviourTest]


def _resolve(request: EvaluateRequest, forgotten: Forgotten) -> _Inputs:
    if request.baseline is not None:
        require_baseline(request.baseline)
    behaviour = [BehaviourTest.from_dict(one) for one in request.behaviour]
    test_set = read_test_set(request.test_set, request.text, request.label, leave_out=forgotten.has)
    return _Inputs(
        find_model(request.candidate, request.work, request.tracking),
        _find_compared(request.champion, "champion", request),
        _find_compared(request.best, "best version", request),
        test_set,
        cut(test_set, request.slices),
        behaviour,
    )


def _find_compared(reference: str | None, role: str, request: EvaluateRequest) -> LocalModel | None:
    """:raises BadInput: it is gone or damaged. That is never the same as that there is none."""
    if reference is None:
        return None
    try:
        return find_model(reference, request.work, request.tracking)
    except BadInput as error:
        raise BadInput(f"The {role} cannot be compared with, so nothing was judged. {error}") from error


def _parts(inputs: _Inputs, request: EvaluateRequest) -> dict[str, Any]:
    def named(model: LocalModel | None) -> dict[str, str] | None:
        # the name too: the report says which registered version may be promoted, not only which weights
        return None if model is None else {"name": model.name, "digest": model.digest}

    return {
        "candidate": named(inputs.candidate),
        "champion": named(inputs.champion),
        "best": named(inputs.best),
        "baseline": request.baseline,
        "test_set": inputs.test_set.digest,
        "slices": digest_of(inputs.groups) if inputs.groups else None,
        "behaviour": request.behaviour or None,
        "batch_size": request.batch_size,
        "golden_examples": request.golden_examples,
        "runtime": serving_runtime(),
        "code": code_version("training", "serving"),
    }


def _is_whole(store: Store, place: str, found: dict[str, Any]) -> bool:
    """:return: whether the report and all that it names are still there."""
    if not store.is_complete(place):
        return False
    named = [*store.read_json(f"{place}/report.json")["predictions"].values(), found["release"]]
    return all(store.exists(store.key(uri)) for uri in named if uri)


def _examine(examination: Examination, inputs: _Inputs, request: EvaluateRequest) -> dict[str, Examined | None]:
    """:return: what is known of each role; None: there is nobody."""
    roles: dict[str, Examined | None] = dict.fromkeys(("candidate", *COMPARED))
    roles["candidate"] = examination.examine(inputs.candidate, "candidate", must_know_labels=True)
    for role, model in (("champion", inputs.champion), ("best", inputs.best)):
        if model is not None:
            roles[role] = examination.examine(model, role)
    if (baseline := request.baseline) is not None:
        answers, uri = examination.ask_other(baseline, lambda: ask_baseline(baseline, inputs.test_set))
        roles["baseline"] = Examined(baseline, digest_of_answers(answers), answers, uri)
    return roles


def _report(test_set: TestSet, roles: dict[str, Examined | None], request: EvaluateRequest) -> dict[str, Any]:
    labels = sorted({*test_set.labels, *(label for one in roles.values() if one for label in one.answers.labels)})
    measured = {role: one and _measured(one, test_set, labels) for role, one in roles.items()}
    for role, one in measured.items():
        if one:
            log.info("%s: %s", role, ", ".join(_told(one)))
    return {
        "test_set": {
            "uri": test_set.uri,
            "digest": test_set.digest,
            "text_column": request.text,
            "rows": len(test_set.texts),
            "new_rows": None,
            "labels": labels,
        },
        **measured,
        "predictions": {role: one and one.uri for role, one in roles.items()},
        "slices": [],
        "membership": None,
        "behaviour": None,
    }


def _told(measured: dict[str, Any]) -> Iterator[str]:
    """:return: the figures of one model, for the log."""
    for name, value in measured["metrics"].items():
        yield f"{name} -" if value is None else f"{name} {value:.4f}"
    if serving := measured["serving"]:
        latency, agreement = serving["latency_ms"], serving["agreement"]
        yield f"{latency['p50']:.1f} ms a text (p99 {latency['p99']:.1f})"
        yield f"{serving['throughput']:,.0f} texts/s in {serving['precision']}"
        yield f"{serving['memory_bytes'] / 1e6:,.0f} MB in memory"
        yield f"the label of its checkpoint in {agreement['labels']:.2%} of the rows"


def _measured(examined: Examined, test_set: TestSet, labels: list[str]) -> dict[str, Any]:
    """Labels are matched by name: two models may have them in any order."""
    import numpy as np

    from training.metrics import measure

    answers = examined.answers
    index = {label: i for i, label in enumerate(labels)}
    scores = np.zeros((len(test_set.texts), len(labels)))
    scores[:, [index[label] for label in answers.labels]] = answers.scores
    truth = np.array([index[label] for label in test_set.labels])
    predicted = np.array([index[label] for label in answers.predictions])
    return {
        "model": examined.name,
        "digest": examined.digest,
        **measure(truth, predicted, scores, labels),
        "unknown_labels": answers.unknown_labels(test_set),
        "serving": examined.serving,
    }


def _log_to_mlflow(candidate: str, report: dict[str, Any], uri: str, tracking: Tracking) -> None:
    """Add the test metrics and the report to the run that made the candidate, and its place to the version."""
    if not candidate.startswith("models:/"):
        log.info("%s is not a registered version, so it has no MLflow run to log the report to.", candidate)
        return
    from training.patience import connect, patiently

    client = connect(tracking)
    name, version = candidate.removeprefix("models:/").rsplit("/", 1)

    def send() -> None:
        client.set_model_version_tag(name, version, REPORT_TAG, uri)
        run_id = client.get_model_version(name, version).run_id
        if not run_id:
            log.info("%s was registered without a run; its report is in the store alone.", candidate)
            return
        for metric, value in report["candidate"]["metrics"].items():
            if value is not None:
                client.log_metric(run_id, f"test_{metric}", value)
        # texts are in the report of the verdict, from which those that are forgotten are taken out
        told = {**report, "behaviour": without_examples(report["behaviour"])}
        client.log_dict(run_id, told, "evaluation/report.json")

    patiently(send)
