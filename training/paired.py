"""Compare the answers of two models on the same rows: how large is the difference, and how much of it is luck?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from training.bootstrap import Difference, Estimate, freedom_of, resampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pairs:
    """What was true and what two models said, as cells: indices of labels, and how many rows have them."""

    truth: NDArray[np.int64]  # (n_cells,)
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    counts: NDArray[np.int64]
    labels: int

    @classmethod
    def of(cls, truth: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64], labels: int) -> Pairs:
        """:param truth: (n_rows,), indices below ``labels``. :param one: likewise. :param other: likewise."""
        import numpy as np

        return cls._of(truth, one, other, np.ones(len(truth), dtype=np.int64), labels)

    @classmethod
    def _of(
        cls,
        truth: NDArray[np.int64],
        one: NDArray[np.int64],
        other: NDArray[np.int64],
        counts: NDArray[np.int64],
        labels: int,
    ) -> Pairs:
        """:return: rows, each of which counts so often, with those that are alike as one cell."""
        import numpy as np

        cells, place = np.unique((truth * labels + one) * labels + other, return_inverse=True)
        counts = np.bincount(place, weights=counts).astype(np.int64)
        return cls(cells // labels**2, cells // labels % labels, cells % labels, counts, labels)

    @cached_property
    def rows(self) -> int:
        return int(self.counts.sum())

    def of_label(self, label: int) -> Pairs:
        """:return: the same rows, with this label as 1 and every other as 0."""
        truth, one, other = ((part == label).astype("int64") for part in (self.truth, self.one, self.other))
        return Pairs._of(truth, one, other, self.counts, 2)

    @cached_property
    def _rights(self) -> Pairs:
        """The same rows, with right answers as 1: all that an accuracy depends on."""
        right, one, other = ((part == self.truth).astype("int64") for part in (self.truth, self.one, self.other))
        return Pairs._of(right, one, other, self.counts, 2)

    @cached_property
    def only_one(self) -> int:
        """Rows that only the one model answers rightly."""
        return int(self.counts[(self.one == self.truth) & (self.other != self.truth)].sum())

    @cached_property
    def only_other(self) -> int:
        return int(self.counts[(self.one != self.truth) & (self.other == self.truth)].sum())

    def difference(self, metric: str, seed: int) -> Difference:
        """:param metric: accuracy, f1_macro, f1_weighted, or f1 of label 1 of two."""
        cells = self._rights if metric == "accuracy" else self
        doubted, shares = cells._with_doubt()
        samples = resampled(shares, self.rows, seed, lambda draws: _Counts(doubted, draws).difference(metric))
        value = float(_Counts(cells, cells.counts[None, :]).difference(metric)[0])
        freedom = freedom_of(doubted._pull(metric, shares), shares, self.rows)
        return Difference(value, float(samples.std()), self.rows, freedom, 0.5 / self.rows)

    def _pull(self, metric: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """:return: the influence function of the difference: which way, and how far, a row of each cell pulls it."""
        if metric == "accuracy":
            return (self.one == self.truth).astype(float) - (self.other == self.truth)
        return self._pull_of(self.one, metric, shares) - self._pull_of(self.other, metric, shares)

    def _pull_of(self, answers: NDArray[np.int64], metric: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        import numpy as np

        def by_label(labels: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(labels, weights, minlength=self.labels)

        right = answers == self.truth
        support = by_label(self.truth, shares)
        both = by_label(answers, shares) + support
        both[both == 0] = 1
        f1 = 2 * by_label(self.truth, shares * right) / both
        present = support > 0
        weight = {"f1": np.arange(self.labels) == 1, "f1_weighted": support}.get(metric, present / present.sum())
        each = weight / both
        pull = each[self.truth] * (2 * right - f1[self.truth]) - each[answers] * f1[answers]
        return pull + f1[self.truth] if metric == "f1_weighted" else pull

    def _with_doubt(self) -> tuple[Pairs, NDArray[np.float64]]:
        """
        Make half a row possible that the one alone gets right, and half a row that the other alone does: what nobody
        has seen yet is not impossible (Agresti and Min, "Simple improved confidence intervals for comparing matched
        proportions", 2005).

        :return: these cells and such ones, and how likely each is, (n_cells,).
        """
        import numpy as np

        labels = np.unique(self.truth)
        support = np.bincount(self.truth, weights=self.counts)[labels]
        doubt = 0.5 * support / self.rows  # half a row for each label would leave a rare label's F1 open for ever
        wrong, none = np.full(len(labels), self.labels), np.zeros(len(labels), dtype=np.int64)
        cells = Pairs(
            truth=np.concatenate([self.truth, labels, labels]),
            one=np.concatenate([self.one, labels, wrong]),
            other=np.concatenate([self.other, wrong, labels]),
            counts=np.concatenate([self.counts, none, none]),
            labels=self.labels + 1,  # the wrong answer is one that no row has
        )
        weights = np.concatenate([self.counts, doubt, doubt])
        return cells, weights / weights.sum()

    def scores(self, metrics: Sequence[str], seed: int) -> dict[str, Estimate]:
        """:return: by metric, what the one model reaches by itself, all from the same draws."""
        import numpy as np

        def measure(draws: NDArray[np.int64]) -> NDArray[np.float64]:
            counts = _Counts(self, draws)
            return np.stack([counts.score(metric) for metric in metrics])

        here = measure(self.counts[None, :])[:, 0]
        samples = resampled(self.counts / self.rows, self.rows, seed, measure)
        return {
            metric: Estimate(float(value), each, self.rows)
            for metric, value, each in zip(metrics, here, samples, strict=True)
        }


class _Counts:
    """Right answers, answers and rows of each label in some drawn test sets: (n_sets, n_labels) each."""

    def __init__(self, pairs: Pairs, draws: NDArray[np.int64]) -> None:
        self.pairs, self.draws = pairs, draws.astype("float64")

    def difference(self, metric: str) -> NDArray[np.float64]:
        """:return: (n_sets,)"""
        pairs = self.pairs
        if metric == "accuracy":
            better = (pairs.one == pairs.truth).astype(int) - (pairs.other == pairs.truth)
            return self.draws @ better / pairs.rows
        return self._average(self._f1_of_one, metric) - self._average(self._f1_of_other, metric)

    def score(self, metric: str) -> NDArray[np.float64]:
        """:return: (n_sets,), of the one model."""
        if metric == "accuracy":
            return self.draws @ (self.pairs.one == self.pairs.truth).astype(int) / self.pairs.rows
        return self._average(self._f1_of_one, metric)

    def _average(self, f1: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
        import numpy as np

        if metric == "f1":
            return f1[:, 1]
        if metric == "f1_weighted":
            return (f1 * self._support).sum(axis=1) / self.pairs.rows
        return f1[:, np.unique(self.pairs.truth)].mean(axis=1)  # a label that happens not to be drawn counts as 0

    @cached_property
    def _f1_of_one(self) -> NDArray[np.float64]:
        return self._f1(self.pairs.one)

    @cached_property
    def _f1_of_other(self) -> NDArray[np.float64]:
        return self._f1(self.pairs.other)

    def _f1(self, answers: NDArray[np.int64]) -> NDArray[np.float64]:
        import numpy as np

        right = self._by_label(answers, answers == self.pairs.truth)
        return 2 * right / np.maximum(self._by_label(answers) + self._support, 1)

    @cached_property
    def _support(self) -> NDArray[np.float64]:
        return self._by_label(self.pairs.truth)

    def _by_label(self, labels: NDArray[np.int64], where: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        import numpy as np
        from scipy import sparse

        cells = np.arange(len(labels)) if where is None else np.flatnonzero(where)
        shape = (len(labels), self.pairs.labels)
        indicator = sparse.csr_array((np.ones(len(cells)), (cells, labels[cells])), shape=shape)
        return self.draws @ indicator


def mcnemar(pairs: Pairs) -> float:
    """:return: how likely so uneven a split of the rows that one model alone gets right is if both are equally good."""
    from scipy import stats

    told_apart = pairs.only_one + pairs.only_other
    return float(stats.binomtest(pairs.only_one, told_apart).pvalue) if told_apart else 1.0


def worse_by_chance(pairs: Pairs, difference: Difference, limit: float) -> float:
    """
    :return: how likely a difference this far below ``limit`` is if the one is not worse than that: from the spread of
        the resamples, and never below what the exact test says of rows that only one of them gets right. The spread of
        a few rows that happen to agree is too small, and a count of resamples ends at one in ten thousand, which many
        comparisons at once are beyond.
    """
    from scipy import stats

    distance = difference.value + difference.half_row - limit
    by_spread = float(distance >= 0)
    if difference.spread:
        by_spread = float(stats.t.cdf(distance / difference.spread, difference.freedom))
    told_apart = pairs.only_one + pairs.only_other
    if not told_apart:
        return 1.0
    return max(by_spread, float(stats.binomtest(pairs.only_one, told_apart, alternative="less").pvalue))


def holm(chances: list[float], level: float) -> list[bool]:
    """
    :param chances: p-values of hypotheses that are tested together.
    :return: which are refuted when the chance to refute even one wrongly is to stay below ``level`` (Holm, 1979).
    """
    order = sorted(range(len(chances)), key=chances.__getitem__)
    refuted = [False] * len(chances)
    for rank, place in enumerate(order):
        if chances[place] > level / (len(chances) - rank):
            break
        refuted[place] = True
    return refuted
