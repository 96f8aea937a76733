"""What one model says to every row of a test set: in memory, and as it is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from training.testset import TestSet
from training.text import text_hash

if TYPE_CHECKING:
    import numpy as np

PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Answers:
    labels: tuple[str, ...]  # in the order of the model's ids
    scores: np.ndarray  # (n_rows, n_labels), probabilities
    latency_ms: np.ndarray | None = None  # (n_rows,), of the text alone; NaN: not measured. None: of no row

    @property
    def predictions(self) -> list[str]:
        return [self.labels[i] for i in self.scores.argmax(axis=1)]

    @property
    def are_numbers(self) -> bool:
        """Whether the model answers every row; one that diverged answers NaN."""
        import numpy as np

        return bool(np.isfinite(self.scores).all())

    def unknown_labels(self, test_set: TestSet) -> list[str]:
        """:return: labels of test rows that the model cannot answer."""
        return sorted({*test_set.labels} - {*self.labels})


def write_answers(path: Path, answers: Answers, test_set: TestSet) -> None:
    """Rows are in the order of the test set; docs/architecture.md, "Evaluation report", has the columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, labels = answers.scores.shape
    scores = pa.ListArray.from_arrays(
        pa.array(np.arange(0, rows * labels + 1, labels, dtype=np.int32)),
        pa.array(answers.scores.ravel(), pa.float64()),
    )
    columns = {
        "text_sha256": [text_hash(text) for text in test_set.texts],
        "label": test_set.labels,
        "prediction": answers.predictions,
        "scores": scores,
    }
    if answers.latency_ms is not None:
        columns["latency_ms"] = pa.array(answers.latency_ms, pa.float64(), from_pandas=True)  # NaN is null
    table = pa.table(columns).replace_schema_metadata({"labels": json.dumps(answers.labels)})  # the order of the scores
    pq.write_table(table, path, compression="zstd")


def read_answers(file: BinaryIO) -> Answers:
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    labels = tuple(json.loads(table.schema.metadata[b"labels"]))
    flat = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    latency = None
    if "latency_ms" in table.column_names:
        latency = table["latency_ms"].to_numpy().astype(np.float64)
    return Answers(labels, flat.astype(np.float64).reshape(-1, len(labels)), latency)
