"""
Tell what a verdict is about: figures, changes and examples, as the JSON document that its page is made of.

Nothing here decides. "Better by" is of the candidate and positive where it is better, also of a metric that is better
when it is lower. Beside a text stands ``text_sha256``, the hash of the whole of it, by which it is found to be taken
out (training.forget).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training.bootstrap import Difference, Estimate
from training.compared import Compared, Part
from training.evidence import Evidence
from training.losses import mean_loss
from training.metrics import CALIBRATION_BINS, calibration_bins
from training.paired import Pairs
from training.report import (
    COMPARED,
    HIGHER_IS_BETTER,
    METRICS,
    REPORTED,
    LabelScore,
    Report,
    Scored,
    computed_metrics,
)
from training.rules import Rules
from training.text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MATRIX_LABELS = 16  # beyond this a confusion matrix is unreadable and gives way to a list
COMMONEST = 30  # entries of that list
SHOWN_LABELS = 400  # of more nobody reads each
SHOWN_EXAMPLES = 25  # of rows that got worse, and of those that got better

Texts = Callable[[Sequence[str]], Mapping[str, str]]  # hashes to the texts that can be told
Interval = dict[str, float]


def verdict_details(report: Report, evidence: Evidence | None, rules: Rules, texts: Texts, seed: int) -> dict[str, Any]:
    """
    :param evidence: the answers that the report counts; None: they were not kept, so that only totals are told.
    :param seed: of the resamples, as the verdict's: the same intervals.
    """
    return _Details(report, evidence, rules, texts, seed).to_json()


@dataclass(frozen=True)
class _Details:
    report: Report
    evidence: Evidence | None
    rules: Rules
    texts: Texts
    seed: int

    @property
    def candidate(self) -> Scored:
        return self.report.candidate

    @property
    def champion(self) -> Scored | None:
        return self.report.champion

    @property
    def labels(self) -> tuple[str, ...]:
        return self.report.test_set.labels

    @cached_property
    def roles(self) -> dict[str, Scored]:
        found = {role: getattr(self.report, role) for role in ("candidate", *COMPARED)}
        return {role: scored for role, scored in found.items() if scored is not None}

    @cached_property
    def both(self) -> Compared | None:
        """Candidate and champion; None: there is no champion, it is the candidate, or the answers were not kept."""
        if self.evidence is None or self.champion is None or self.champion.digest == self.candidate.digest:
            return None
        return self.evidence.against("champion", list(self.candidate.labels), self.seed)

    def to_json(self) -> dict[str, Any]:
        test_set = self.report.test_set
        return {
            "rules": json.loads(self.rules.to_json()),
            "test_set": {
                "uri": test_set.uri,
                "digest": test_set.digest,
                "rows": test_set.rows,
                "new_rows": test_set.new_rows,
            },
            "models": {role: _about(scored) for role, scored in self.roles.items()},
            "metrics": self._metrics(),
            "old_and_new": self._old_and_new(),
            "labels": {"count": len(self.labels), "shown": self._labels()},
            "slices": self._slices(),
            "calibration": self._calibration(),
            "confusion": self._confusion(),
            "examples": self._examples(),
            "behaviour": list((self.report.behaviour or {}).get("tests", ())),
        }

    def _metrics(self) -> list[dict[str, Any]]:
        alone = {} if self.both else self._alone()
        found = []
        for name in REPORTED:
            one: dict[str, Any] = {"name": name, **{role: scored.metrics[name] for role, scored in self.roles.items()}}
            if self.both and (name in METRICS or self.both.sureness is not None):
                one["better_by"] = self._interval(self.both.difference(name))
            elif self.champion is not None:
                difference = self.candidate.metrics[name] - self.champion.metrics[name]
                one["better_by"] = {"value": difference if name in HIGHER_IS_BETTER else -difference}
            if name in alone:
                one["interval"] = self._interval(alone[name])
            found.append(one)
        return found

    def _alone(self) -> dict[str, Estimate]:
        """:return: what the candidate reaches by itself, where there is nothing to compare it with."""
        if self.evidence is None:
            return {}
        predicted = self.evidence.predicted["candidate"]
        pairs = Pairs.of(self.evidence.truth, predicted, predicted, len(self.labels))
        losses = mean_loss(self.evidence.losses["candidate"], self.seed)
        return {**pairs.scores(HIGHER_IS_BETTER, self.seed), "log_loss": losses}

    def _old_and_new(self) -> list[dict[str, Any]]:
        """:return: rows that the champion was judged on, and those that joined since, where there are both."""
        new = None if self.evidence is None else self.evidence.new
        if new is None or self.both is None or new.all() or not new.any():
            return []
        return [self._some_rows(name, rows, self.both) for name, rows in (("old", ~new), ("new", new))]

    def _some_rows(self, name: str, rows: NDArray[np.bool_], both: Compared) -> dict[str, Any]:
        asked = {"candidate": both.one, "champion": both.other}
        scores = {role: computed_metrics(self._matrix(both.truth[rows], said[rows])) for role, said in asked.items()}
        better_by = both.among(rows).difference("accuracy", self.seed)
        return {"name": name, "rows": int(rows.sum()), **scores, "better_by": self._interval(better_by)}

    def _matrix(self, truth: NDArray[np.int64], said: NDArray[np.int64]) -> list[list[int]]:
        import numpy as np

        size = len(self.labels)
        return np.bincount(truth * size + said, minlength=size**2).reshape(size, size).tolist()

    def _labels(self) -> list[dict[str, Any]]:
        """:return: what got most worse first; without a champion the lowest F1 first."""
        parts = {part.name: part for part in self._parts("label")}

        def gain(label: str) -> float:
            before = self.champion.labels[label].f1 if self.champion else 0
            return (self.candidate.labels[label].f1 or 0) - (before or 0)

        return [
            {
                "label": label,
                "rows": self.candidate.labels[label].support,
                "candidate": _scores(self.candidate.labels[label]),
                **({"champion": _scores(self.champion.labels[label])} if self.champion else {}),
                **self._part(parts.get(label)),
            }
            for label in sorted(self.labels, key=lambda label: (gain(label), label))[:SHOWN_LABELS]
        ]

    def _slices(self) -> list[dict[str, Any]]:
        if self.evidence is None:
            return [{"name": one.name, "description": one.description, "rows": one.rows} for one in self.report.slices]
        parts = {part.name: part for part in self._parts("slice")}
        right = {role: said == self.evidence.truth for role, said in self.evidence.predicted.items()}
        found = []
        for one in self.report.slices:
            member = self.evidence.slices[one.name]
            told: dict[str, Any] = {"name": one.name, "description": one.description, "rows": one.rows}
            for role in ("candidate", "champion"):
                if role in right and one.rows:
                    told[role] = float(right[role][member].mean())
            found.append({**told, **self._part(parts.get(one.name))})
        return found

    def _parts(self, kind: str) -> Iterable[Part]:
        return [part for part in self.both.parts if part.kind == kind] if self.both else []

    def _part(self, part: Part | None) -> dict[str, Any]:
        if part is None or not part.rows:
            return {}
        return {"better_by": self._interval(part.difference), "enough": part.rows >= self.rules.group_rows}

    def _calibration(self) -> dict[str, list[dict[str, float]]]:
        if self.evidence is None:
            return {}
        truth, predicted = self.evidence.truth, self.evidence.predicted
        return {
            role: _bins(self.evidence.sureness[role], predicted[role] == truth)
            for role in ("candidate", "champion")
            if role in self.evidence.sureness
        }

    def _confusion(self) -> dict[str, Any]:
        if len(self.labels) <= MATRIX_LABELS:
            of_champion = {"champion": self.champion.confusion} if self.champion else {}
            return {"labels": list(self.labels), "candidate": self.candidate.confusion, **of_champion}
        before = self.champion.confusion if self.champion else None
        changed = [
            (count - (before[i][j] if before else 0), i, j)
            for i, row in enumerate(self.candidate.confusion)
            for j, count in enumerate(row)
            if i != j and count != (before[i][j] if before else 0)
        ]
        changed.sort(key=lambda one: (-abs(one[0]), one))
        first = [
            {
                "true": self.labels[i],
                "taken_for": self.labels[j],
                "candidate": self.candidate.confusion[i][j],
                "champion": before[i][j] if before else None,
            }
            for _more, i, j in changed[:COMMONEST]
        ]
        return {"count": len(changed), "commonest": first}

    def _examples(self) -> dict[str, Any]:
        """:return: rows of which one model alone is right; without a champion those of which the candidate is wrong."""
        if self.evidence is None or self.evidence.hashes is None or "candidate" not in self.evidence.sureness:
            return {}
        right = {role: said == self.evidence.truth for role, said in self.evidence.predicted.items()}
        if self.champion is None:
            groups = {"wrong": ~right["candidate"]}
        else:
            groups = {
                "worse": right["champion"] & ~right["candidate"],
                "better": right["candidate"] & ~right["champion"],
            }
        picked = {name: self._surest(rows) for name, rows in groups.items()}
        hashes = {place: self.evidence.hashes[place].as_py() for places in picked.values() for place in places}
        texts = self.texts(list(hashes.values()))
        return {
            name: {
                "count": int(groups[name].sum()),
                "shown": [self._example(place, hashes[place], texts) for place in places],
            }
            for name, places in picked.items()
        }

    def _surest(self, rows: NDArray[np.bool_]) -> list[int]:
        """:return: places of those rows whose answer the candidate was surest of."""
        import numpy as np

        assert self.evidence is not None
        places = np.flatnonzero(rows)
        order = np.argsort(-self.evidence.sureness["candidate"][places], kind="stable")[:SHOWN_EXAMPLES]
        return places[order].tolist()

    def _example(self, place: int, known: str, texts: Mapping[str, str]) -> dict[str, Any]:
        evidence = self.evidence
        assert evidence is not None
        said = {
            role: {
                "label": self.labels[evidence.predicted[role][place]],
                "score": float(evidence.sureness[role][place]),
            }
            for role in ("candidate", "champion")
            if role in evidence.predicted
        }
        text = shown("text", texts[known]) if known in texts else {"text_sha256": known}
        return {**text, "label": self.labels[evidence.truth[place]], **said}

    def _interval(self, found: Estimate | Difference) -> Interval:
        sure = self.rules.confidence
        return {"value": found.value, "low": found.at_least(sure), "high": found.at_most(sure)}


def _about(scored: Scored) -> dict[str, Any]:
    serving = scored.serving
    return {
        "model": scored.model,
        "digest": scored.digest,
        "unknown_labels": list(scored.unknown_labels),
        "serving": serving
        and {**vars(serving), "latency_ms": dict(serving.latency_ms), "agreement": vars(serving.agreement)},
    }


def _scores(score: LabelScore) -> dict[str, float | None]:
    return {"precision": score.precision, "recall": score.recall, "f1": score.f1}


def _bins(sureness: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """:return: of each group of equally sure answers, cut as calibration_error does: rows, mean score, share right."""
    import numpy as np

    place = calibration_bins(sureness)
    rows = np.bincount(place, minlength=CALIBRATION_BINS)
    sure = np.bincount(place, weights=sureness, minlength=CALIBRATION_BINS)
    correct = np.bincount(place, weights=right, minlength=CALIBRATION_BINS)
    return [
        {"rows": int(rows[i]), "sure": float(sure[i] / rows[i]), "right": float(correct[i] / rows[i])}
        for i in range(CALIBRATION_BINS)
        if rows[i]
    ]
