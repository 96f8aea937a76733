"""
Draw test sets of the same size from the rows that there are, and say what they tell of a number.

The bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993) of rows that come in cells: rows that are
alike in all that a number depends on are one cell, and drawing a test set is drawing from a multinomial distribution
over the cells. A hundred thousand rows cost what their cells cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.cores import cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
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

    Its bounds are those of Student's distribution with the spread of the resamples, half a row further out: measured
    on test sets of 1,000 rows they are wrong less often than quantiles of the resamples, which promise more than they
    hold (docs/gate.md has how often).
    """

    value: float
    spread: float  # standard deviation, among other rows of the same kind
    rows: int
    freedom: float  # degrees of freedom: how many rows' worth of knowledge the spread itself is drawn from
    half_row: float = 0.0  # what half a row is worth, of a number that rows are counted for

    def at_least(self, confidence: float) -> float:
        """:return: the bound that the true difference is above, with this confidence."""
        return self.value - self._reach(confidence)

    def at_most(self, confidence: float) -> float:
        return self.value + self._reach(confidence)

    def _reach(self, confidence: float) -> float:
        from scipy import stats

        return float(stats.t.ppf(confidence, self.freedom)) * self.spread + self.half_row

    def rows_to_decide(self, limit: float, confidence: float) -> int | None:
        """
        :return: how many rows would put the interval on one side of ``limit`` if the difference stays what it is; its
            width shrinks with the square root of the rows. None: no number does, the difference is at the limit.
        """
        distance = self.value - limit
        if abs(distance) < 1e-9:
            return None
        return math.ceil(self.rows * (self._reach(confidence) / distance) ** 2)


def freedom_of(pull: NDArray[np.float64], shares: NDArray[np.float64], rows: int) -> float:
    """
    Satterthwaite's degrees of freedom of a variance that rows of this kurtosis were counted for: where few rows pull
    far, such as those of a rare label, their spread is itself a guess (O'Neill, "Some useful moment results in sampling
    problems", 2014, has the variance of a variance).

    :param pull: of each cell, (n_cells,). :param shares: how likely each cell is.
    """
    import numpy as np

    around = pull - pull @ shares
    variance = float(around**2 @ shares)
    if variance <= np.finfo(float).tiny:
        return math.inf
    kurtosis = float(around**4 @ shares) / variance**2
    return max(1.0, 2 * rows / max(kurtosis - 1, 2 / rows))


def resampled(
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
