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
        "config": {
            "ratchet": {
                "description": "Where Ratchet's stages run and where they keep what they make.",
                "options": {
                    "training_python": _option(
                        "Python interpreter of the training environment. Unset: the one that runs Airflow.",
                        example="/opt/ratchet-training/bin/python",
                    ),
                    "training_path": _option(
                        "Directories of your own modules, such as a Trainer subclass. Unset: none.",
                        example="/opt/acme/trainers",
                    ),
                    "store": _option(
                        "URI of the store, file:// or s3://. Unset: ratchet/store in AIRFLOW_HOME.",
                        example="s3://acme-models/ratchet",
                    ),
                    "work": _option(
                        "Local directory for checkpoints and locks. Unset: ratchet/work in AIRFLOW_HOME.",
                        example="/var/lib/ratchet",
                    ),
                },
            }
        },
    }


def _option(description: str, *, example: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "string",
        "version_added": __version__,
        "example": example,
        "default": None,  # worked out in ratchet.settings
    }
