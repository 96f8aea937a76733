"""Populations of test rows with what two models say: equally good ones, and one that is worse by a known amount."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from training.paired import Pairs


def equal(truth: NDArray[np.int64], one: NDArray[np.int64], other: NDArray[np.int64]) -> Pairs:
    """:return: the rows with the models either way round, so that the two are equally good."""
    both = np.concatenate([one, other]), np.concatenate([other, one])
    return Pairs.of(np.concatenate([truth, truth]), *both, int(max(truth.max(), one.max(), other.max())) + 1)


def cells(population: Pairs) -> list[list[int]]:
    """:return: of each cell the truth, what the one and the other say, and how many rows there are."""
    return np.stack([population.truth, population.one, population.other, population.counts], axis=1).tolist()


def of_cells(found: list[list[int]]) -> Pairs:
    """:param found: as ``cells`` gives it."""
    truth, one, other, counts = np.array(found).T
    return Pairs(truth, one, other, counts, int(max(truth.max(), one.max(), other.max())) + 1)


def drawn(population: Pairs, rows: int, random: np.random.Generator) -> Pairs:
    counts = random.multinomial(rows, population.counts / population.rows)
    there = counts > 0
    truth, one, other = (part[there] for part in (population.truth, population.one, population.other))
    return Pairs(truth, one, other, counts[there], population.labels)


def worsened(population: Pairs, metric: str, margin: float) -> Pairs:
    """:return: the population with the one model's right answers taken away until it is worse by the margin."""
    scale = 1_000_000 // population.rows + 1  # fine enough for any share
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        made = without(population, share, scale)
        low, high = (share, high) if _point(made, metric) > -margin else (low, share)
    return made


def _point(population: Pairs, metric: str) -> float:
    """:return: by how much the one is better than the other in all of the population."""
    score = accuracy_score if metric == "accuracy" else partial(f1_score, average=metric.removeprefix("f1_"))
    one, other = (
        score(population.truth, said, sample_weight=population.counts) for said in (population.one, population.other)
    )
    return float(one - other)


def without(population: Pairs, share: float, scale: int) -> Pairs:
    """:return: ``scale`` times the rows, a share of those that both get right with a wrong answer of the one."""
    counts = population.counts * scale
    both = (population.one == population.truth) & (population.other == population.truth)
    taken = np.where(both, np.round(counts * share), 0).astype(np.int64)
    wrong = (population.truth + 1) % population.labels
    truth, other = np.tile(population.truth, 2), np.tile(population.other, 2)
    one = np.concatenate([population.one, wrong])
    return Pairs(truth, one, other, np.concatenate([counts - taken, taken]), population.labels)
