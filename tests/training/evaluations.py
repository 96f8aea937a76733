"""Evaluations on disk, as if models had been asked."""

from __future__ import annotations

import copy
import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tests.reports import answers
from training.contract import JudgeRequest
from training.judge import judge
from training.store import local_path

SCORE = 0.75  # of what a model answers


class Evaluation:
    """Report and answers on disk, as the stage leaves them."""

    def __init__(self, place, report, seed=0, first=0):
        """:param first: number of the first text: two of the same number are the same text."""
        self.place, self.report, self.first = place, copy.deepcopy(report), first
        self.kept = answers(report, seed)
        self.labels = report["test_set"]["labels"]
        (place / "predictions").mkdir(parents=True)
        for role, predicted in self.kept.predicted.items():
            losses = self.keep(role, predicted)
            self.report[role]["metrics"]["log_loss"] = float(np.mean(losses))
            self.report["predictions"][role] = self.file(role).as_uri()
        self.tell()

    def file(self, role):
        return self.place / "predictions" / f"{role}.parquet"

    def keep(self, role, predicted, shift=0, hashes=None):
        """
        :param hashes: of the texts; None: made up.
        :return: (n_rows,), the losses of these answers.
        """
        others = (1 - SCORE) / (len(self.labels) - 1)
        scores = np.full((len(predicted), len(self.labels)), others)
        scores[np.arange(len(predicted)), predicted] = SCORE
        order = np.roll(np.arange(len(self.labels)), 1)  # a model has its labels in an order of its own
        rows = {
            "text_sha256": hashes or [f"{row + self.first + shift:064x}" for row in range(len(predicted))],
            "label": [self.labels[i] for i in self.kept.truth],
            "prediction": [self.labels[i] for i in predicted],
            "scores": pa.array(scores[:, order].tolist(), type=pa.list_(pa.float64())),
        }
        table = pa.table(rows).replace_schema_metadata({"labels": json.dumps([self.labels[i] for i in order])})
        parquet.write_table(table, self.file(role))
        return -np.log(scores[np.arange(len(predicted)), self.kept.truth])

    def tell(self):
        (self.place / "report.json").write_text(json.dumps(self.report))

    @property
    def uri(self):
        return (self.place / "report.json").as_uri()

    def judge(self, force=False, barred=None, known=None, data_license=None, **rules):
        return judge(
            JudgeRequest(
                pipeline="films",
                store=(self.place / "store").as_uri(),
                report=self.uri,
                rules=rules,
                barred=barred or {},
                known=known or {},
                data_license=data_license,
                force=force,
            )
        )

    def details(self, result):
        """:return: what the page of a verdict is made of."""
        return json.loads((local_path(result.page).parent / "details.json").read_text())
