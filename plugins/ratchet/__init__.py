"""Scheduled and data-triggered retraining of Hugging Face models on Apache Airflow."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """:return: what Airflow's provider discovery shows and loads for this package."""
    return {
        "package-name": "ratchet-airflow",
        "name": "Ratchet",
        "description": "Retrain, gate and deploy Hugging Face models.",
        "versions": [__version__],
        "config": {
            "ratchet": {
                "description": "Where Ratchet's stages run and where they keep what they make.",
                "options": {
                    "training_python": _option("Python interpreter of the training environment.", "string"),
                    "store": _option("URI of the store, file:// or s3://.", "string"),
                    "work": _option("Local directory for checkpoints and locks.", "string"),
                },
            }
        },
    }


def _option(description: str, kind: str) -> dict[str, Any]:
    return {"description": description, "type": kind, "version_added": "0.1.0", "example": None, "default": None}
