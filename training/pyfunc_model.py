"""The model as MLflow serves it. MLflow copies this file beside the weights and runs it without the rest of Ratchet."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH_SIZE = 64


class TextClassifier(PythonModel):
    """Texts in; one row with ``label`` and ``score`` for each text out."""

    def load_context(self, context: Any) -> None:
        path = context.artifacts["model"]
        # the tokenizer's model_max_length is the length of training
        self.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False
        ).eval()

    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,  # MLflow takes another type for the schema, and warns where there is none
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """
        :param model_input: texts, or a frame with the column ``text`` or with one column.
        :param params: ``top_k``: how many labels for each text. With 1, ``label`` and ``score`` are plain values;
            otherwise they are lists, the likeliest label first.
        """
        top_k = int((params or {}).get("top_k") or 1)
        labels, scores = [], []
        for row in self._scores(_texts(model_input)):
            best = row.topk(min(top_k, len(row)))
            names = [self.model.config.id2label[index] for index in best.indices.tolist()]
            labels.append(names if top_k > 1 else names[0])
            scores.append(best.values.tolist() if top_k > 1 else best.values.item())
        return pd.DataFrame({"label": labels, "score": scores})

    def _scores(self, texts: list[str]) -> list[torch.Tensor]:
        rows: list[torch.Tensor] = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = self.tokenizer(
                texts[start : start + BATCH_SIZE], truncation=True, padding=True, return_tensors="pt"
            )
            with torch.inference_mode():
                rows.extend(self.model(**batch).logits.float().softmax(dim=-1))
        return rows


def _texts(model_input: Any) -> list[str]:
    if isinstance(model_input, pd.DataFrame):
        column = "text" if "text" in model_input.columns else model_input.columns[0]
        return [str(text) for text in model_input[column]]
    return [model_input] if isinstance(model_input, str) else [str(text) for text in model_input]


set_model(TextClassifier())
