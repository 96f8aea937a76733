"""
Compare two models on the same rows: how large is the difference, and how much of it is the luck of these rows?

The paired bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993) draws test sets of the same size
from the rows that there are. A row counts by what was true and what both models said, so rows that agree in all three
are one cell, and drawing a test set is drawing from a multinomial distribution over the cells: a hundred thousand rows
cost what their cells cost.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

from training.cores import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
STEPS = 1000  # distinct differences of a loss that are told apart; what is lost is below a thousandth of their range
NUMBERS_AT_ONCE = 2_000_000  # of draws in memory, for each thread


@dataclass(frozen=True)
class Estimate:
    """What these rows say of a number, and what others of the same kind might have said."""

    value: float
    samples: NDArray[np.float64]  # (RESAMPLES,), sorted
    rows: int

    def at_least(self, confidence: float) -> float:
        """:return: the bound that the true number is above, with this confidence."""
        import numpy as np

        return float(np.quantile(self.samples, 1 - confidence))

    def at_most(self, confidence: float) -> float:
        import numpy as np

        return float(np.quantile(self.samples, confidence))


@dataclass(frozen=True)
class Difference:
    """
    By how much the one is better than the other; negative if it is worse.

    Its bounds are those of a normal distribution with the spread of the resamples, half a row further out:
    measured on test sets of 1,000 rows they are wrong less often than quantiles of the resamples, which promise more
    than they hold (docs/gate.md has how often).
    """

    value: float
    spread: float  # standard deviation, among other rows of the same kind
    rows: int
    half_row: float = 0.0  # what half a row is worth, of a number that rows are counted for

    def at_least(self, confidence: float) -> float:
        """:return: the bound that the true difference is above, with this confidence."""
        return self.value - self._reach(confidence)

    def at_most(self, confidence: float) -> float:
        return self.value + self._reach(confidence)

    def _reach(self, confidence: float) -> float:
        return NormalDist().inv_cdf(confidence) * self.spread + self.half_row

    def rows_to_decide(self, limit: float, confidence: float) -> int | None:
        """
        :return: how many rows would put the interval on one side of ``limit`` if the difference stays what it is; its
            width shrinks with the square root of the rows. None: no number does, the difference is at the limit.
        """
        distance = self.value - limit
        if abs(distance) < 1e-9:
            return None
        return math.ceil(self.rows * (self._reach(confidence) / distance) ** 2)


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
        samples = _resampled(shares, self.rows, seed, lambda draws: _Counts(doubted, draws).difference(metric))
        value = float(_Counts(cells, cells.counts[None, :]).difference(metric)[0])
        return Difference(value, float(samples.std()), self.rows, 0.5 / self.rows)

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
        samples = _resampled(self.counts / self.rows, self.rows, seed, measure)
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


def loss_difference(one: NDArray[np.float64], other: NDArray[np.float64], seed: int) -> Difference:
    """
    :param one: (n_rows,), the loss of each row. :param other: likewise.
    :return: by how much the mean loss of the one is lower.
    """
    better = other - one
    return Difference(float(better.mean()), float(_resampled_mean(better, seed).std()), len(better))


def mean_loss(losses: NDArray[np.float64], seed: int) -> Estimate:
    """:param losses: (n_rows,)"""
    return Estimate(float(losses.mean()), _resampled_mean(losses, seed), len(losses))


def _resampled_mean(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    import numpy as np

    low, high = float(values.min()), float(values.max())
    step = np.floor((values - low) / max(high - low, 1e-300) * STEPS).astype(int)
    _, place, counts = np.unique(step, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=values) / counts
    return _resampled(counts / len(values), len(values), seed, lambda draws: draws @ means / len(values))


def _resampled(
    shares: NDArray[np.float64], rows: int, seed: int, measure: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """
    :param shares: how likely a row is in each cell, (n_cells,).
    :param measure: of how often each cell is in each of some test sets, (n_sets, n_cells), a number for each set, or
        several: (..., n_sets).
    :return: (..., RESAMPLES), sorted.
    """
    import numpy as np

    at_once = max(1, NUMBERS_AT_ONCE // len(shares))
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    seeds = np.random.SeedSequence(seed).spawn(len(sizes))  # each has its own: the order of threads changes nothing

    def draw(size: int, own: np.random.SeedSequence) -> NDArray[np.float64]:
        return measure(np.random.default_rng(own).multinomial(rows, shares, size=size))

    with ThreadPoolExecutor(cores()) as threads:  # numpy draws without holding on to the interpreter
        return np.sort(np.concatenate(list(threads.map(draw, sizes, seeds)), axis=-1))


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
    by_spread = float(stats.norm.cdf(distance / difference.spread)) if difference.spread else float(distance >= 0)
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
