"""Compare the scores of two models on the same rows: how much they lose, and how far they can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.bootstrap import Difference, Estimate, freedom_of, resampled
from training.metrics import CALIBRATION_BINS, calibration_bins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STEPS = 1000  # distinct differences of a loss that are told apart; what is lost is below a thousandth of their range


def loss_difference(one: NDArray[np.float64], other: NDArray[np.float64], seed: int) -> Difference:
    """
    :param one: (n_rows,), the loss of each row. :param other: likewise.
    :return: by how much the mean loss of the one is lower.
    """
    import numpy as np

    better = other - one
    freedom = freedom_of(better, np.full(len(better), 1 / len(better)), len(better))
    return Difference(float(better.mean()), float(_resampled_mean(better, seed).std()), len(better), freedom)


def mean_loss(losses: NDArray[np.float64], seed: int) -> Estimate:
    """:param losses: (n_rows,)"""
    return Estimate(float(losses.mean()), _resampled_mean(losses, seed), len(losses))


def calibration_difference(
    one: tuple[NDArray[np.float64], NDArray[np.bool_]], other: tuple[NDArray[np.float64], NDArray[np.bool_]], seed: int
) -> Difference:
    """
    :param one: (n_rows,) each: the scores of its answers, and whether they are right. :param other: likewise.
    :return: by how much the calibration error of the one is lower.
    """
    import numpy as np

    places, beyond = zip(*(_too_sure(*each) for each in (one, other)), strict=True)
    cells, place, counts = np.unique(np.stack(places), axis=1, return_inverse=True, return_counts=True)
    place, rows = place.ravel(), len(places[0])
    sums = []  # of each model (n_cells, n_bins): what a row of the cell adds to its bin
    for bins, over in zip(cells // 2, beyond, strict=True):
        added = np.zeros((len(counts), CALIBRATION_BINS))
        added[np.arange(len(counts)), bins] = np.bincount(place, weights=over) / counts
        sums.append(added)

    def better(draws: NDArray[np.int64]) -> NDArray[np.float64]:
        errors = [np.abs(draws @ added).sum(axis=1) / rows for added in sums]
        return errors[1] - errors[0]

    signs = [np.sign(counts @ added) for added in sums]
    pull = sums[1] @ signs[1] - sums[0] @ signs[0]
    shares = counts / rows
    samples = resampled(shares, rows, seed, better)
    return Difference(float(better(counts[None, :])[0]), float(samples.std()), rows, freedom_of(pull, shares, rows))


def _too_sure(sureness: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """:return: of each row twice the bin of its score and whether it is right, and how much too sure it is."""
    return 2 * calibration_bins(sureness) + right, sureness - right


def _resampled_mean(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    import numpy as np

    low, high = float(values.min()), float(values.max())
    step = np.floor((values - low) / max(high - low, 1e-300) * STEPS).astype(int)
    _, place, counts = np.unique(step, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=values) / counts
    return resampled(counts / len(values), len(values), seed, lambda draws: draws @ means / len(values))
