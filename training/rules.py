"""The rules of a gate. Standard library only: Airflow imports this."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from training.contract import BadInput, Message
from training.report import HIGHER_IS_BETTER, LATENCIES, LOWER_IS_BETTER, METRICS

# What may have a highest value: of the report's metrics, and of what serving costs
BUDGETS = (
    *LOWER_IS_BETTER,
    "calibration_error",
    *(f"latency_{each}_ms" for each in LATENCIES),
    "disk_mb",
    "memory_mb",
)


@dataclass(frozen=True, kw_only=True)
class Rules(Message):
    """:raises BadInput: a metric that does not exist, or a bound that no candidate or every candidate meets."""

    minimum: dict[str, float] = field(default_factory=dict)
    maximum: dict[str, float] = field(default_factory=dict)
    metric: str = "f1_macro"  # what candidate and champion are compared by
    no_worse_by: float | None = 0.04  # how much worse than champion and best is let through; None: do not compare
    better: bool = False  # the candidate must be shown to be better than the champion
    group_no_worse_by: float | None = 0.1  # likewise in a slice or a label; None: they are reported alone
    group_rows: int = 50  # slices and labels with fewer test rows decide nothing
    confidence: float = 0.95  # of each bound, on its side
    approval: Literal["never", "undecided", "always"] = "never"  # when a person is asked

    def __post_init__(self) -> None:
        _check_bounds("minimum", self.minimum, HIGHER_IS_BETTER, 1.0)
        _check_bounds("maximum", self.maximum, BUDGETS, sys.float_info.max)
        if self.metric not in METRICS:
            raise BadInput(f"gate.metric is {self.metric!r}; valid: {', '.join(METRICS)}.")
        largest = 1.0 if self.metric in HIGHER_IS_BETTER else sys.float_info.max
        _check_margin("no_worse_by", self.no_worse_by, largest)
        _check_margin("group_no_worse_by", self.group_no_worse_by, 1.0)
        if not _is_number(self.confidence) or not 0.5 < self.confidence < 1:
            raise BadInput(f"gate.confidence is {self.confidence!r}; expected a number above 0.5 and below 1.")
        if self.better and self.no_worse_by is None:
            raise BadInput("gate.better asks for a comparison with the champion, and no_worse_by: null for none.")
        if self.approval not in ("never", "undecided", "always"):
            raise BadInput(f"gate.approval is {self.approval!r}; valid: never, undecided, always.")


def _check_bounds(name: str, bounds: Any, metrics: tuple[str, ...], largest: float) -> None:
    if not isinstance(bounds, dict):
        raise BadInput(f"gate.{name} is {bounds!r}; expected metric: number.")
    for metric, bound in bounds.items():
        if metric not in metrics:
            raise BadInput(f"gate.{name}: {metric!r} takes no {name}; valid: {', '.join(metrics)}.")
        if not _is_number(bound) or not 0 <= bound <= largest:
            limit = "from 0 to 1" if largest == 1 else "of at least 0"
            raise BadInput(f"gate.{name}.{metric} is {bound!r}; expected a number {limit}.")


def _check_margin(name: str, margin: Any, largest: float) -> None:
    if margin is not None and (not _is_number(margin) or not 0 <= margin <= largest):
        limit = "from 0 to 1" if largest == 1 else "of at least 0"
        raise BadInput(f"gate.{name} is {margin!r}; expected a number {limit}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # NaN fails every comparison above
