"""Choose the golden examples: texts whose answers a release must repeat before it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.testset import TestSet
from training.text import text_hash

if TYPE_CHECKING:
    import numpy as np

CLEAR_MARGIN = 0.1  # assumed: a lead that no serving precision turns round, so that a golden example tests the release
SHORT_TEXT = 1000  # characters; assumed: shorter ones cost a smoke test nothing worth choosing by


def golden_examples(test_set: TestSet, labels: Sequence[str], scores: np.ndarray, count: int) -> dict[str, list[Any]]:
    """
    Choose texts whose answers a release must repeat: every label in turn, clear answers first, the same ones each time.

    Of equals the short texts come first: a smoke test has to be over soon, also on a slow processor.

    :param scores: (n_rows, n_labels), in the order of ``labels``.
    """
    import numpy as np

    best = np.sort(scores, axis=1)
    near_tie = best[:, -1] - best[:, -2] < CLEAR_MARGIN
    by_label: dict[str, list[int]] = {}
    first = {text: row for row, text in reversed(list(enumerate(test_set.texts)))}

    def preference(row: int) -> tuple[bool, int, str]:
        text = test_set.texts[row]
        return bool(near_tie[row]), max(len(text), SHORT_TEXT), text_hash(text)

    for row in sorted(first.values(), key=preference):
        by_label.setdefault(test_set.labels[row], []).append(row)
    turns = sorted((turn, label, row) for label, rows in by_label.items() for turn, row in enumerate(rows))
    chosen = [row for _turn, _label, row in turns[:count]]
    return {
        "texts": [test_set.texts[row] for row in chosen],
        "labels": [labels[i] for i in scores[chosen].argmax(axis=1)],
        "scores": [[score if np.isfinite(score) else None for score in row] for row in scores[chosen].tolist()],
    }
