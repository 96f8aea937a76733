"""Say which steps of a pipeline would find their work done, and why or why not. Reads the data, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.contract import EvaluateRequest, PackageRequest, PlanRequest, PlanResult, TrainRequest
from training.ingest import hit_or_miss
from training.intake import read
from training.keys import Records, key_of
from training.scratch import scratch_directory
from training.store import Store

NOT_YET = "unknown: runs when the step before it has made something new"

Step = dict[str, str]


def plan(request: PlanRequest) -> PlanResult:
    """:raises BadInput: the data or the configuration could not be used by the run either."""
    store = Store(request.ingest.store)
    with scratch_directory("plan-") as scratch:
        found = read(request.ingest, scratch)
        snapshot = found.snapshot
        _hit, why, _key, _parts = hit_or_miss(request.ingest, store, found)
    ingested = _step("ingest", why)
    trained, model = _train(request.train, store, store.uri(snapshot.key))
    evaluated, golden = _evaluate(request, store, model, store.uri(snapshot.key), ingested["state"])
    packaged = _package(request, store, model, golden)
    return PlanResult(
        steps=[ingested, trained, evaluated, packaged],
        dropped=dict(found.dropped),
        warnings=[one.sentence for one in found.findings],
    )


def _step(name: str, why: str) -> Step:
    state = why.partition(":")[0]
    return {"step": name, "state": state if state in ("hit", "unknown") else "miss", "why": why}


def _train(values: Mapping[str, Any], store: Store, snapshot: str) -> tuple[Step, str | None]:
    """:return: the step, and the URI of the model that is there already."""
    from training.train import train_parts

    request = TrainRequest.from_dict({**values, "snapshot": snapshot})
    parts, records = train_parts(request), Records(store, "train")
    found = None if request.force else records.find(key_of(parts))
    if found is None or not store.is_complete(store.key(found["model"])):
        return _step("train", records.why_miss(parts, request.pipeline, force=request.force)), None
    return _step("train", records.why_hit(key_of(parts))), found["model"]


def _evaluate(
    request: PlanRequest, store: Store, model: str | None, snapshot: str, ingested: str
) -> tuple[Step, str | None]:
    """:return: the step, and the URI of the golden examples that are there already."""
    from training.evaluate import evaluate_parts

    if model is None or ingested != "hit":
        return _step("evaluate", NOT_YET), None
    evaluation = EvaluateRequest(
        pipeline=request.ingest.pipeline,
        store=store.root,
        work=request.train["work"],
        candidate=model,
        test_set=snapshot,
        **request.evaluate,
    )
    parts, records = evaluate_parts(evaluation), Records(store, "evaluate")
    last = records.last_parts(evaluation.pipeline) or {}
    if (last.get("candidate") or {}).get("digest") == parts["candidate"]["digest"]:
        parts["candidate"] = last["candidate"]  # the same weights, under the name that the registry gave them
    unsaid = []  # what a run finds out: that nothing has moved since is assumed
    for role, spoken in (("champion", "the champion"), ("best", "the best version")):
        if last.get(role):
            parts[role] = last[role]
            unsaid.append(f"{spoken} is still {last[role]['name']}")
    found = records.find(key_of(parts))
    if found is None:
        return _step("evaluate", records.why_miss(parts, evaluation.pipeline)), None
    assumed = f"; if {' and '.join(unsaid)}" if unsaid else ""
    return _step("evaluate", records.why_hit(key_of(parts)) + assumed), found["golden"]


def _package(request: PlanRequest, store: Store, model: str | None, golden: str | None) -> Step:
    from training.package import MANIFEST, package_parts

    if model is None or golden is None:
        return _step("package", NOT_YET)
    pipeline, work = request.ingest.pipeline, request.train["work"]
    parts = package_parts(PackageRequest(pipeline=pipeline, store=store.root, work=work, model=model, golden=golden))
    records = Records(store, "package")
    found = records.find(key_of(parts))
    if found is None or not store.is_complete(f"releases/{found['digest']}", MANIFEST):
        # the evaluation has packaged it, so somebody removed it since; a verdict comes first
        return _step("package", "miss: not packaged yet; runs if the gate promotes")
    return _step("package", records.why_hit(key_of(parts)))
