"""
Tell what a gate would have said of versions that were judged before, from the answers that were kept.

Nothing is scored again. What one version is compared with is what this gate would have promoted before it, which
another gate may have held; so it can be a model that was never asked the same test set. Then the rows count that both
were asked at some time, and the result says how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Message, ReplayRequest, ReplayResult
from training.evidence import SAME_COUNT, Evidence, evidence_of, own_labels, read_slices, read_table
from training.gate import why_not_compared
from training.judge import load_report, seed_of
from training.report import JUDGED, Report, Scored, UnusableReport, computed_metrics, label_score, read_report
from training.rules import Rules
from training.rules_alone import alone
from training.rules_compared import compared
from training.verdict import RuleOutcome, decided

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Version(Message):
    """A registered version, as MLflow and the ledger know it."""

    version: str
    digest: str | None = None  # of its model
    report: str | None = None  # URI of the last report in which it was the candidate; None: it was not evaluated
    promoted: bool = False  # whether it became champion


@dataclass(frozen=True, kw_only=True)
class Replayed(Message):
    """What the gate would have said of one version."""

    version: str
    decision: str  # promote | hold | ask | unknown
    reason: str  # the one that decides
    value: float | None = None  # the candidate's metric, on its whole test set
    against: str | None = None  # version that would have been champion
    difference: float | None = None  # of the metric, to that version; ``low`` and ``high`` are its interval
    low: float | None = None
    high: float | None = None
    rows: int | None = None  # that both answered
    test_rows: int | None = None


def replay(request: ReplayRequest) -> ReplayResult:
    """
    Follow the history that the rules would have made.

    Where a person would have been asked, the answer is what became of the version. A version whose answers are gone is
    unknown, and the history goes on without it. What people did beside the gate is left out: bars, overrides and
    rollbacks.

    :raises BadInput: the rules contradict themselves.
    """
    rules = Rules.from_dict(request.rules)
    versions = [Version.from_dict(one) for one in request.versions]
    champion, best = (Version.from_dict(one) if one else None for one in (request.champion, request.best))
    kept = _Kept(one for one in (champion, best, *versions) if one is not None)
    history = _History(rules, kept, champion, best)
    return ReplayResult(versions=[asdict(history.judge(version)) for version in versions])


@dataclass(frozen=True)
class _Told:
    """What a report tells of one model and its answers."""

    uri: str
    test_set: str
    labels: tuple[str, ...]
    scored: Scored


def _told(report: Report, role: str) -> _Told | None:
    scored, uri = getattr(report, role), report.predictions.get(role)
    return _Told(uri, report.test_set.digest, report.test_set.labels, scored) if scored and uri else None


class _Kept:
    """The reports of some versions, and where the answers are of the models that they are about."""

    def __init__(self, versions: Iterable[Version]) -> None:
        self._reports: dict[str, Any] = {}
        self._places: dict[str, dict[str, _Told]] = {}  # model to the URIs of its answers
        for version in versions:
            if version.report is not None and version.report not in self._reports:
                try:
                    self._reports[version.report] = values = load_report(version.report)
                    report = read_report(values)
                except (BadInput, UnusableReport):
                    continue  # said when it is that version's turn
                for role in JUDGED:
                    if told := _told(report, role):
                        self._places.setdefault(told.scored.digest, {})[told.uri] = told

    def report(self, version: Version) -> Report:
        """:raises UnusableReport: there is none, or it is gone or damaged."""
        if version.report is None:
            raise UnusableReport("it was never evaluated")
        if version.report not in self._reports:
            raise UnusableReport(f"its evaluation {version.report} is gone")
        return read_report(self._reports[version.report])

    def answers(self, digest: str | None, test_set: str) -> Iterator[pyarrow.Table]:
        """Yield the answers of a model that can be read, those to this test set first."""
        places = self._places.get(digest or "", {}).values()
        for told in sorted(places, key=lambda told: told.test_set != test_set):
            try:
                yield _read_answers(told)
            except UnusableReport:
                continue


class _History:
    """What a gate has promoted so far."""

    def __init__(self, rules: Rules, kept: _Kept, champion: Version | None, best: Version | None) -> None:
        self.rules, self.kept, self.champion, self.best = rules, kept, champion, best

    def judge(self, version: Version) -> Replayed:
        """Say what the gate says of the next version, and promote it if it would."""
        try:
            report = self.kept.report(version)
        except UnusableReport as fault:
            return Replayed(version=version.version, decision=UNKNOWN, reason=str(fault))
        outcomes = list(alone(report, self.rules))
        gone = None
        try:
            outcomes += self._compared(report, self._seed(report))
        except UnusableReport as fault:
            gone = str(fault)
        serves = self.champion is not None and self.champion.digest == report.candidate.digest
        decision: str = decided(outcomes, "never" if serves else self.rules.approval)
        if gone is not None and decision != "hold":
            decision = UNKNOWN  # one rule that fails is enough to hold it, whatever the others would say
        said = next((one for one in outcomes if one.name == f"no_worse_by.{self.rules.metric}"), None)
        replayed = Replayed(
            version=version.version,
            decision=decision,
            reason=gone if decision == UNKNOWN and gone else self._reason(decision, outcomes),
            value=report.candidate.metrics[self.rules.metric],
            against=self.champion.version if self.champion else None,
            difference=said.value if said else None,
            low=said.low if said else None,
            high=said.high if said else None,
            rows=said.rows if said else None,
            test_rows=report.test_set.rows,
        )
        if decision == "promote" or (decision == "ask" and version.promoted):
            self._promote(version, report, outcomes)
        return replayed

    def _promote(self, version: Version, report: Report, outcomes: list[RuleOutcome]) -> None:
        self.champion = Version(version=version.version, digest=report.candidate.digest)
        by_name = {one.name.partition(".")[0]: one for one in outcomes}
        mark = by_name.get("mark") or by_name.get("no_worse_by")
        if mark is None or mark.value >= 0:
            self.best = self.champion

    def _reason(self, decision: str, outcomes: list[RuleOutcome]) -> str:
        against = {"hold": ("fail", "undecided"), "ask": ("undecided",)}.get(decision, ())
        for outcome in against:
            for one in outcomes:
                if one.outcome == outcome:
                    return one.reason
        not_compared = why_not_compared(self.rules, has_champion=self.champion is not None)
        return not_compared[0] if not_compared else next(o.reason for o in outcomes if o.name.startswith("no_worse_by"))

    def _compared(self, report: Report, seed: int) -> Iterator[RuleOutcome]:
        if self.rules.no_worse_by is None:
            return
        best = self.best if self.best and self.champion and self.best.digest != self.champion.digest else None
        for role, other in (("champion", self.champion), ("best", best)):
            if other is None:
                continue
            candidate = report.candidate
            if other.digest == candidate.digest:
                yield from compared(candidate, candidate, role, None, self.rules, seed)
                continue
            evidence, labels = self._rows_of_both(report, other, role)
            one = _scored(candidate.model, candidate.digest, "candidate", evidence, labels)
            two = _scored(other.version, other.digest or "", role, evidence, labels)
            yield from compared(one, two, role, evidence, self.rules, seed)

    def _rows_of_both(self, report: Report, other: Version, role: str) -> tuple[Evidence, list[str]]:
        """
        :return: what candidate and ``other`` answered to the rows that both were asked, and all labels there are.
        :raises UnusableReport: there is no such row, or the answers are gone.
        """
        told = _told(report, "candidate")
        if told is None:
            raise UnusableReport("its answers were not kept")
        own = _read_answers(told)
        for answers in self.kept.answers(other.digest, report.test_set.digest):
            rows, theirs = _in_both(own, answers)
            if len(rows):
                break
        else:
            raise UnusableReport(f"the answers of version {other.version} to these rows are gone, or never were")
        slices = read_slices(report.membership, own) if report.membership else {}
        labels = sorted({*report.test_set.labels, *own_labels(answers)})
        tables = {"candidate": own.take(rows), role: answers.take(theirs)}
        return evidence_of(tables, labels, {name: member[rows] for name, member in slices.items()}), labels

    def _seed(self, report: Report) -> int:
        """:return: the seed of ``judge``, so that the same evidence and rules get the same verdict as then."""
        champion, best = (other.digest if other else None for other in (self.champion, self.best))
        return seed_of(report.candidate.digest, champion, None if best == champion else best, report.test_set.digest)


def _read_answers(told: _Told) -> pyarrow.Table:
    """
    :return: the answers, without the rows that were forgotten since.
    :raises UnusableReport: they are gone or damaged, or not those that the report counts.
    """
    import numpy as np

    table = read_table(told.uri)
    try:
        evidence = evidence_of({"candidate": table}, told.labels, {})
    except UnusableReport as fault:
        raise UnusableReport(f"{told.uri}: {fault}") from fault
    size = len(told.labels)
    counted = np.bincount(evidence.truth * size + evidence.predicted["candidate"], minlength=size**2)
    reported = np.array(told.scored.confusion).ravel()
    if (counted > reported).any():
        raise UnusableReport(f"the kept answers {told.uri} do not give the confusion matrix of their report")
    whole = len(table) == reported.sum()
    if whole and abs(float(evidence.losses["candidate"].mean()) - told.scored.metrics["log_loss"]) > SAME_COUNT:
        raise UnusableReport(f"the kept answers {told.uri} do not give the log_loss of their report")
    return table


def _in_both(one: pyarrow.Table, other: pyarrow.Table) -> tuple[np.ndarray, np.ndarray]:
    """:return: places of the rows of ``one`` that ``other`` has as well, by text and label, and where it has them."""
    import numpy as np
    import pyarrow.compute as pc

    def rows_of(table: pyarrow.Table) -> Any:
        return pc.binary_join_element_wise(table["text_sha256"], table["label"], "/").combine_chunks()

    found = pc.index_in(rows_of(one), value_set=rows_of(other))
    places = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
    return places, found.drop_null().to_numpy()


def _scored(name: str, digest: str, role: str, evidence: Evidence, labels: list[str]) -> Scored:
    """:return: how one of the models did in these rows."""
    import numpy as np

    size = len(labels)
    counts = np.bincount(evidence.truth * size + evidence.predicted[role], minlength=size**2).reshape(size, size)
    confusion = tuple(tuple(row) for row in counts.tolist())
    return Scored(
        model=name,
        digest=digest,
        metrics={**computed_metrics(confusion), "log_loss": float(evidence.losses[role].mean())},
        labels={label: label_score(confusion, i) for i, label in enumerate(labels)},
        confusion=confusion,
        unknown_labels=(),
        serving=None,
    )
