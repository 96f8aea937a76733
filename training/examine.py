"""
Ask models for their answers to one test set: by the runtime that trained them and by the one that will serve them.

A model is judged by what users will get, so by the answers of its release. Those of its checkpoint show whether the
release says the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from serving.release import MANIFEST as RELEASE_MANIFEST
from serving.release import RUNTIME, read_release
from serving.smoke import SCORE_TOLERANCE as SMOKE_TOLERANCE
from training.answers import PREDICTIONS, Answers, read_answers, write_answers
from training.behaviour import BehaviourTest, run_tests
from training.contract import BadInput, EvaluateRequest, PackageRequest, PackageResult
from training.forgotten import Forgotten
from training.golden import golden_examples
from training.keys import code_version, key_of
from training.model import LocalModel
from training.package import SCORE_TOLERANCE as PARITY_TOLERANCE
from training.package import package
from training.store import MANIFEST, Store
from training.testset import TestSet
from training.text import some

log = logging.getLogger(__name__)

# Of a score, between checkpoint and release. In f32 what packaging allows. In bf16 what the smoke test of a deployment
# allows; measured: of 1,025 test rows of four models of 22M parameters one moved by more than 0.02, none by 0.03
TOLERANCES = {"f32": PARITY_TOLERANCE, "bf16": SMOKE_TOLERANCE}


def serving_runtime() -> str:
    """:return: what answers for a release, with its version: another one may answer otherwise."""
    return f"{RUNTIME} {version(RUNTIME)}"


@dataclass(frozen=True)
class Examined:
    """One model and what it answers."""

    name: str
    digest: str
    answers: Answers  # by which it is judged
    uri: str | None  # where they are kept; None: nowhere, since a model that answers NaN is not served
    golden: dict[str, Any] | None = None
    serving: dict[str, Any] | None = None  # as in the report


class Examination:
    """Models before one test set. What was answered before is not asked again, as long as nobody forces it."""

    def __init__(self, store: Store, test_set: TestSet, request: EvaluateRequest, forgotten: Forgotten) -> None:
        self.store, self.test_set, self.request, self.forgotten = store, test_set, request, forgotten
        self.asked = False  # whether a model had to be asked, or packaged
        self._examined: dict[str, Examined] = {}

    def examine(self, model: LocalModel, role: str, *, must_know_labels: bool = False) -> Examined:
        """
        :param role: how messages call it.
        :param must_know_labels: refuse a model that does not know all labels of the test set.
        :raises BadInput: it cannot be loaded, or not be packaged.
        """
        if found := self._examined.get(model.digest):
            log.info("%s: the same weights as %s, not asked again", role, found.name)
            return replace(found, name=model.name)
        trained = self._ask_checkpoint(model, role)
        if unknown := trained.unknown_labels(self.test_set):
            if must_know_labels:
                raise BadInput(
                    f"{self.test_set.uri} has labels that the {role} {model.name} does not know: {some(unknown)}; "
                    f"it knows {some(trained.labels)}. Train it on them, or leave these rows out."
                )
            log.warning("The %s does not know %s; rows with these labels count against it.", role, some(unknown))
        golden = golden_examples(self.test_set, trained.labels, trained.scores, self.request.golden_examples)
        if trained.are_numbers:
            made = self._package(model, role, golden)
            served, uri, figures = self._ask_release(model, role, made)
            agreement = agreement_of(trained, served, TOLERANCES[figures["precision"]])
            found = Examined(
                model.name,
                model.digest,
                served,
                uri,
                golden,
                {"release": made.release, **figures, "agreement": agreement},
            )
        else:
            log.warning("%s %s answers NaN, so it was not packaged.", role, model.name)
            found = Examined(model.name, model.digest, trained, None, golden)
        self._examined[model.digest] = found
        return found

    def test_behaviour(self, examined: Examined, tests: Sequence[BehaviourTest]) -> dict[str, Any] | None:
        """
        :return: what the release does in the tests (training.behaviour); None: there is no test, or no release.
        :raises BadInput: a test is about a label that the model does not know.
        """
        if not tests or examined.serving is None:
            return None
        from serving.model import load_model
        from training.serving_figures import answer_together

        with self.store.scratch("examine-") as copies:
            release = read_release(self._release(examined.serving["release"], copies))
            model = load_model(release)
            name = f"behaviour of {examined.name}"
            return run_tests(
                tests, self.test_set.texts, release.labels, lambda texts: answer_together(model, texts, name)
            )

    def _release(self, uri: str, copies: Path) -> Path:
        """:param copies: directory for that of a store elsewhere. :return: where the release is on this machine."""
        return self.store.local_directory(self.store.key(uri), copies, RELEASE_MANIFEST)

    def _ask_checkpoint(self, model: LocalModel, role: str) -> Answers:
        parts = {
            "model": model.digest,
            "runtime": "torch",
            "test_set": self.test_set.digest,
            "batch_size": self.request.batch_size,
            "code": code_version(),
        }

        def ask() -> tuple[Answers, dict[str, Any]]:
            from training.classifier import load_classifier

            classifier = load_classifier(model.path, f"{role} {model.name}")
            return Answers(classifier.labels, classifier.score(self.test_set.texts, self.request.batch_size)), {}

        answers, _uri, _figures = self._kept(f"{role} {model.name}", parts, ask)
        return answers

    def ask_other(self, name: str, ask: Callable[[], Answers]) -> tuple[Answers, str]:
        """:param name: by which alone the answers are kept. :return: the answers, and where they are."""
        parts = {"baseline": name, "test_set": self.test_set.digest, "code": code_version()}
        answers, uri, _figures = self._kept(f"baseline {name}", parts, lambda: (ask(), {}))
        return answers, uri

    def _package(self, model: LocalModel, role: str, golden: Mapping[str, Any]) -> PackageResult:
        with self.store.scratch("examine-") as scratch:
            examples = scratch / "golden.json"
            examples.write_text(json.dumps(golden))
            request = PackageRequest(
                pipeline=self.request.pipeline,
                store=self.request.store,
                work=self.request.work,
                model=str(model.path),
                golden=str(examples),
                force=self.request.force,
            )
            try:
                with self.forgotten.while_writing(self.store):  # the examples are from before package reads the list
                    made = package(request)
            except BadInput as error:
                raise BadInput(f"The {role} {model.name} cannot be served, so nothing was judged: {error}") from error
        self.asked |= not made.hit
        return made

    def _ask_release(self, model: LocalModel, role: str, made: PackageResult) -> tuple[Answers, str, dict[str, Any]]:
        from training.serving_figures import ask_release

        name = f"release of {role} {model.name}"
        parts = {
            "model": model.digest,
            "release": made.digest,
            "runtime": serving_runtime(),
            "test_set": self.test_set.digest,
            "code": code_version("training", "serving"),
        }

        def ask() -> tuple[Answers, dict[str, Any]]:
            with self.store.scratch("examine-") as copies:
                return ask_release(self._release(made.release, copies), self.test_set.texts, name)

        return self._kept(name, parts, ask)

    def _kept(
        self, name: str, parts: Mapping[str, Any], ask: Callable[[], tuple[Answers, dict[str, Any]]]
    ) -> tuple[Answers, str, dict[str, Any]]:
        """:return: the answers, where they are, and what was measured when they were given."""
        place = f"predictions/{key_of(parts)}"
        uri = self.store.uri(f"{place}/{PREDICTIONS}")
        if not self.request.force and self.store.is_complete(place):
            with self.store.open(f"{place}/{PREDICTIONS}") as file:
                answers = read_answers(file)
            if len(answers.scores) == len(self.test_set.texts):
                log.info("%s was asked all of this test set before", name)
                return answers, uri, self.store.read_json(f"{place}/{MANIFEST}")["figures"]
            log.info("%s is asked again: rows of the kept answers were forgotten", name)
        answers, figures = ask()
        self.asked = True
        with self.store.scratch("examine-") as scratch:
            write_answers(scratch / PREDICTIONS, answers, self.test_set)
            with self.forgotten.while_writing(self.store):
                self.store.put_directory(scratch, place, {**parts, "figures": figures}, overwrite=True)
        return answers, uri, figures


def agreement_of(trained: Answers, served: Answers, tolerance: float) -> dict[str, Any]:
    """:return: how far the answers of a release are those of its checkpoint, row by row."""
    import numpy as np

    difference = np.abs(trained.scores - served.scores).max(axis=1)
    largest = float(difference.max())
    return {
        "labels": float(np.mean(trained.scores.argmax(axis=1) == served.scores.argmax(axis=1))),
        "largest_difference": largest if np.isfinite(largest) else None,
        "rows_beyond_tolerance": int(np.sum(~(difference <= tolerance))),  # NaN is beyond
        "tolerance": tolerance,
    }
