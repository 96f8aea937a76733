"""Two models on the same rows: overall, in each slice and in each label. What was drawn once is not drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from training.bootstrap import Difference
from training.losses import calibration_difference, loss_difference
from training.paired import Pairs
from training.report import HIGHER_IS_BETTER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """The rows of a slice, compared by accuracy, or one label against all others, by F1."""

    kind: Literal["slice", "label"]
    name: str
    pairs: Pairs
    seed: int

    @property
    def metric(self) -> str:
        return "accuracy" if self.kind == "slice" else "f1"

    @cached_property
    def rows(self) -> int:
        """Rows of the slice, or rows that have the label."""
        return self.pairs.rows if self.kind == "slice" else int(self.pairs.counts[self.pairs.truth == 1].sum())

    @cached_property
    def difference(self) -> Difference:
        return self.pairs.difference(self.metric, self.seed)


@dataclass(frozen=True)
class Compared:
    """
    :param one: (n_rows,), what the one model says, as indices of ``labels``; so are ``other`` and ``truth``.
    :param losses: of the one and of the other, (n_rows,) each.
    :param sureness: the scores of their answers, likewise; None: not kept.
    :param slices: name to (n_rows,).
    """

    truth: NDArray[np.int64]
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    losses: tuple[NDArray[np.float64], NDArray[np.float64]]
    sureness: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    slices: Mapping[str, NDArray[np.bool_]]
    labels: Sequence[str]
    seed: int
    _drawn: dict[str, Difference] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def pairs(self) -> Pairs:
        return Pairs.of(self.truth, self.one, self.other, len(self.labels))

    def among(self, rows: NDArray[np.bool_]) -> Pairs:
        return Pairs.of(self.truth[rows], self.one[rows], self.other[rows], len(self.labels))

    def difference(self, metric: str) -> Difference:
        """:return: by how much the one is better, by one of training.report.REPORTED."""
        if metric not in self._drawn:
            self._drawn[metric] = self._difference(metric)
        return self._drawn[metric]

    def _difference(self, metric: str) -> Difference:
        if metric in HIGHER_IS_BETTER:
            return self.pairs.difference(metric, self.seed)
        if metric == "log_loss":
            return loss_difference(*self.losses, self.seed)
        assert self.sureness is not None
        sure, others = self.sureness
        return calibration_difference((sure, self.one == self.truth), (others, self.other == self.truth), self.seed)

    @cached_property
    def parts(self) -> list[Part]:
        """The slices that have a row, and all labels."""
        slices = [
            Part("slice", name, self.among(member), self.seed) for name, member in self.slices.items() if member.any()
        ]
        labels = [Part("label", name, self.pairs.of_label(at), self.seed) for at, name in enumerate(self.labels)]
        return slices + labels
