"""Say which shares among new rows are others than before, by more than a bound and by more than chance."""

from __future__ import annotations

from collections.abc import Mapping

LEVEL = 0.01  # assumed: of a hundred batches in which no share moved beyond the bound, one at most is told of


def moved_shares(before: Mapping[str, int], now: Mapping[str, int], bound_percent: float) -> dict[str, float]:
    """
    Test for each label that its share is still within the bound: an exact binomial test on either side, corrected for
    the number of labels as Holm does (https://www.jstor.org/stable/4615733).

    Few rows and many labels raise no false alarm, and many rows none about a difference that does not matter.

    :param before: rows of each label; their shares count as known.
    :param now: rows of the same labels among the new ones.
    :param bound_percent: how far a share may move, percentage points.
    :return: labels that moved, least probable first, each with its corrected p.
    """
    total, rows = sum(before.values()), sum(now.values())
    if not total or not rows:
        return {}
    tested = {label: _p(now[label], rows, count / total, bound_percent / 100) for label, count in before.items()}
    moved: dict[str, float] = {}
    corrected = 0.0
    for place, (label, p) in enumerate(sorted(tested.items(), key=lambda item: (item[1], item[0]))):
        corrected = max(corrected, p * (len(tested) - place))
        if corrected > LEVEL:
            break
        moved[label] = corrected
    return moved


def _p(count: int, rows: int, share: float, bound: float) -> float:
    """:return: how probable it is to be as far beyond the bound, on either side, with a share just at the bound."""
    over, under = count / rows > share + bound, count / rows < share - bound
    if not over and not under:
        return 1.0
    from scipy.special import betainc  # takes a fifth of a second: only when there is something to test (measured)

    # The tail of the binomial distribution as an incomplete beta function. scipy.special's binomial functions are wrong
    # in the second digit at 40,000,000 rows, and scipy.stats takes three times as long to import (both measured).
    if over:
        tail = betainc(count, rows - count + 1, share + bound)
    else:
        tail = betainc(rows - count, count + 1, 1 - share + bound)
    return min(1.0, 2 * float(tail))
