"""Go the whole way from data to a packaged release in one process, and leave nothing behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.contract import EvaluateRequest, JudgeRequest, PackageRequest, TrainRequest, TryRequest, TryResult
from training.rules import Rules
from training.scratch import scratch_directory
from training.snapshot import read_split
from training.store import Store, local_path
from training.verdict import Verdict

log = logging.getLogger(__name__)

PREDICTIONS = 5


def rehearse(request: TryRequest) -> TryResult:
    """
    Ingest, train, evaluate, judge, package and predict in a temporary store, without MLflow; it is removed at the end.
    Only a base model from elsewhere is kept, in ``work`` of the train values, as a run keeps it.

    A held candidate is packaged as well: the rehearsal is about whether every step works.

    :raises BadInput: the rules, the data or the configuration could not be used by a real run either.
    """
    from training.evaluate import evaluate
    from training.ingest import ingest
    from training.judge import judge
    from training.model import find_model
    from training.package import package
    from training.train import train

    Rules.from_dict(request.rules)  # first, since it costs nothing to find out
    seconds: dict[str, float] = {}
    with scratch_directory("try-") as scratch:
        store, work = (scratch / "store").as_uri(), f"{scratch}/work"
        with _timed("ingest", seconds):
            snapshot = ingest(replace(request.ingest, store=store, force=False))
            log.info("rows: %s; dropped: %s", snapshot.rows, snapshot.dropped or "none")
        with _timed("train", seconds):
            wanted = TrainRequest.from_dict({**request.train, "store": store, "snapshot": snapshot.snapshot})
            base = find_model(wanted.base_model, wanted.work, wanted.tracking)
            model = train(replace(wanted, base_model=str(base.path), work=work, tracking=None, force=False))
        pipeline = request.ingest.pipeline
        with _timed("evaluate", seconds):
            evaluation = evaluate(
                EvaluateRequest(
                    pipeline=pipeline,
                    store=store,
                    work=work,
                    candidate=model.model,
                    test_set=snapshot.snapshot,
                    slices=request.evaluate.get("slices", {}),
                    behaviour=_about(snapshot.labels, request.evaluate.get("behaviour", [])),
                )
            )
        with _timed("judge", seconds):
            judged = judge(JudgeRequest(pipeline=pipeline, store=store, report=evaluation.report, rules=request.rules))
            verdict = Verdict.from_dict(judged.verdict)
            log.info("verdict: %s; %s", verdict.decision, "; ".join(verdict.reasons))
        with _timed("package", seconds):
            release = package(
                PackageRequest(pipeline=pipeline, store=store, work=work, model=model.model, golden=evaluation.golden)
            )
        with _timed("predict", seconds):
            predictions = _predict(local_path(release.release), Store(store), snapshot.snapshot)
    return TryResult(
        decision=verdict.decision,
        reasons=verdict.reasons,
        metrics=evaluation.metrics,
        predictions=predictions,
        seconds=seconds,
        notes=verdict.notes,
    )


def _about(labels: Sequence[str], tests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """:return: the behavioural tests without those about a label that none of the few rows has."""
    return [one for one in tests if one.get("label") is None or one["label"] in labels]


def _predict(release_directory: Path, store: Store, snapshot: str) -> list[dict[str, Any]]:
    """:return: what the release, loaded as the server loads it, says to a few texts of the test split."""
    from serving.model import apply_function, default_function, load_model
    from serving.release import read_release

    texts = [text for text, _label in read_split(store, store.key(snapshot), "test")[:PREDICTIONS]]
    release = read_release(release_directory)
    model = load_model(release)
    scores = apply_function(default_function(release), model.logits(model.tokenize(texts)))
    return [
        {"text": text, "label": release.labels[int(row.argmax())], "score": float(row.max())}
        for text, row in zip(texts, scores, strict=True)
    ]


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    log.info("--- %s", step)
    started = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - started, 2)
