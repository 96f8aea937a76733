"""What models said to each test row, as the gate needs it, and whether it is what a report counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.compared import Compared
from training.report import JUDGED, Report, UnusableReport
from training.slices import NEW
from training.store import for_fsspec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

SAME_COUNT = 1e-6  # the report's tolerance: the kept answers must give the report's numbers
SMALLEST_SCORE = 2.0**-52  # what scikit-learn's log_loss takes a score of 0 for


@dataclass(frozen=True)
class Evidence:
    """What the models said to each test row; labels are indices into those of the report."""

    truth: NDArray[np.int64]  # (n_rows,)
    predicted: Mapping[str, NDArray[np.int64]]  # role to (n_rows,)
    losses: Mapping[str, NDArray[np.float64]]  # role to (n_rows,): minus the logarithm of the true label's score
    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # name to (n_rows,)
    sureness: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # role to (n_rows,): score of its answer
    new: NDArray[np.bool_] | None = None  # (n_rows,): joined since the champion was judged; None: not kept
    hashes: pyarrow.ChunkedArray | None = None  # (n_rows,): SHA-256 of the normalised texts; None: not kept
    _against: dict[tuple[str, int], Compared] = field(default_factory=dict, init=False, repr=False, compare=False)

    def against(self, role: str, labels: Sequence[str], seed: int) -> Compared:
        """:return: the candidate beside the model of this role: the same thing whoever asks, drawn once."""
        if (role, seed) not in self._against:
            self._against[role, seed] = Compared(
                self.truth,
                self.predicted["candidate"],
                self.predicted[role],
                (self.losses["candidate"], self.losses[role]),
                (self.sureness["candidate"], self.sureness[role]) if role in self.sureness else None,
                self.slices,
                labels,
                seed,
            )
        return self._against[role, seed]


def read_evidence(report: Mapping[str, Any]) -> Evidence | None:
    """
    :return: what each model said to each test row; None: the report names no answers.
    :raises UnusableReport: the answers are gone or damaged, or the models answered different rows.
    """
    try:
        labels = list(report["test_set"]["labels"])
        kept = {role: report["predictions"][role] for role in JUDGED if report["predictions"].get(role)}
    except (AttributeError, KeyError, TypeError):
        return None
    tables = {role: read_table(uri) for role, uri in kept.items()}
    if "candidate" not in tables:
        return None
    for role, uri in kept.items():
        if missing := {"text_sha256", "label", "prediction", "scores"} - set(tables[role].column_names):
            raise UnusableReport(f"the kept answers {uri} have no {min(missing)!r}; run the evaluation again.")
    rows = tables["candidate"].select(["text_sha256", "label"])
    for role, table in tables.items():
        if not table.select(["text_sha256", "label"]).equals(rows):
            raise UnusableReport(f"candidate and {role} were not scored on the same rows in the same order.")
    member = read_membership(report["membership"], rows) if report.get("membership") else {}
    return evidence_of(tables, labels, _slices(member), member.get(NEW))


def evidence_of(
    tables: Mapping[str, pyarrow.Table],
    labels: Sequence[str],
    slices: Mapping[str, np.ndarray],
    new: np.ndarray | None = None,
) -> Evidence:
    """
    :param tables: role to its answers, to the same rows in the same order.
    :param labels: all that a row or a model has.
    :param new: (n_rows,), whether the champion was judged without the row.
    :raises UnusableReport: there is another label, or the tables are not as an evaluation writes them.
    """
    import pyarrow as pa

    index = {label: i for i, label in enumerate(labels)}
    try:
        truth = _indices(tables["candidate"].column("label"), index)
        scores = {role: _scores(table) for role, table in tables.items()}
        return Evidence(
            truth=truth,
            predicted={role: _indices(table.column("prediction"), index) for role, table in tables.items()},
            losses={role: _losses(scores[role], own_labels(table), truth, index) for role, table in tables.items()},
            slices=slices,
            sureness={role: found.max(axis=1) for role, found in scores.items()},
            new=new,
            hashes=tables["candidate"].column("text_sha256"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        raise UnusableReport(
            f"the kept answers are not as an evaluation writes them ({type(error).__name__}: {error}); run it again."
        ) from error


def check(report: Report, evidence: Evidence) -> None:
    """:raises UnusableReport: the kept answers are not those that the report counts."""
    import numpy as np

    labels = len(report.test_set.labels)
    for role in JUDGED:
        scored = getattr(report, role)
        if scored is None:
            continue
        if role not in evidence.predicted:
            raise UnusableReport(f"the answers of {role} were not kept.")
        counted = np.bincount(evidence.truth * labels + evidence.predicted[role], minlength=labels**2)
        if counted.tolist() != [count for row in scored.confusion for count in row]:
            raise UnusableReport(f"the kept answers of {role} do not give its confusion matrix.")
        if abs(float(evidence.losses[role].mean()) - scored.metrics["log_loss"]) > SAME_COUNT:
            raise UnusableReport(f"the kept answers of {role} do not give its log_loss.")
    sizes = {one.name: one.rows for one in report.slices}
    if sizes != {name: int(member.sum()) for name, member in evidence.slices.items()}:
        raise UnusableReport("the kept slices do not have the rows that the report counts.")


def read_table(uri: str) -> pyarrow.Table:
    """:raises UnusableReport: the answers are gone or damaged."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(for_fsspec(uri), "rb") as file:
            content = file.read()  # a store that is away is another error than what is damaged, and worth a retry
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        raise _damaged(uri, error) from error
    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(uri, error) from error


def _damaged(uri: str, error: Exception) -> UnusableReport:
    return UnusableReport(f"the kept answers {uri} cannot be read ({error}); run the evaluation again.")


def read_slices(uri: str, rows: pyarrow.Table) -> dict[str, np.ndarray]:
    """:return: name to (n_rows,). :raises UnusableReport: as ``read_membership``."""
    return _slices(read_membership(uri, rows))


def _slices(member: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows for name, rows in member.items() if name != NEW}


def read_membership(uri: str, rows: pyarrow.Table) -> dict[str, np.ndarray]:
    """
    :param rows: with the column ``text_sha256``.
    :return: name of a slice, or ``NEW``, to (n_rows,): which of the rows are in it.
    :raises UnusableReport: they are gone or damaged, or those of other rows.
    """
    import pyarrow as pa

    table = read_table(uri)
    if "text_sha256" not in table.column_names or not table.column("text_sha256").equals(rows.column("text_sha256")):
        raise UnusableReport("the slices are not those of the test rows.")
    names = [name for name in table.column_names if name != "text_sha256"]
    if wrong := [name for name in names if table.schema.field(name).type != pa.bool_() or table[name].null_count]:
        raise UnusableReport(f"{uri} does not say of each row whether it is in the slice {wrong[0]!r}.")
    return {name: table.column(name).to_numpy() for name in names}


def _indices(column: pyarrow.ChunkedArray, index: Mapping[str, int]) -> np.ndarray:
    import numpy as np

    encoded = column.combine_chunks().dictionary_encode()
    try:
        known = np.array([index[label] for label in encoded.dictionary.to_pylist()], dtype=np.int64)
    except KeyError as error:
        raise UnusableReport(f"the kept answers have a label {error} that the report does not know.") from None
    return known[encoded.indices.to_numpy()]


def own_labels(table: pyarrow.Table) -> list[str]:
    """:return: the labels that a model knows, in the order of its scores."""
    return list(json.loads(table.schema.metadata[b"labels"]))


def _scores(table: pyarrow.Table) -> np.ndarray:
    """:return: (n_rows, n_labels), of the labels that the model knows."""
    import numpy as np

    found = table.column("scores").combine_chunks().flatten().to_numpy().reshape(-1, len(own_labels(table)))
    if not np.isfinite(found).all():
        raise ValueError("a score is not a number")
    return found


def _losses(scores: np.ndarray, own: Sequence[str], truth: np.ndarray, index: Mapping[str, int]) -> np.ndarray:
    """:return: (n_rows,), minus the logarithm of the true label's score; a label that the model does not know has 0."""
    import numpy as np

    place = np.full(len(index), -1)
    place[[index[label] for label in own]] = np.arange(len(own))
    asked = place[truth]
    of_truth = np.where(asked >= 0, scores[np.arange(len(truth)), asked], 0.0)
    return -np.log(np.clip(of_truth, SMALLEST_SCORE, 1 - SMALLEST_SCORE))
