"""Say under which licence a model may be used, as far as its card states one."""

from __future__ import annotations

import logging
from pathlib import Path

from training.model import CARD

log = logging.getLogger(__name__)

LONGEST = 200  # characters; assumed: what is longer is no name of a licence


def stated_license(directory: Path) -> str | None:
    """:return: as the metadata of the card beside the model has it; None: there is no card, or it states none."""
    card = directory / CARD
    if not card.is_file():
        return None
    import yaml
    from huggingface_hub import ModelCard

    try:
        data = ModelCard.load(card, ignore_metadata_errors=True).data
    except (ValueError, TypeError, OSError, yaml.YAMLError) as error:  # no YAML, or not that of a card
        log.warning("%s cannot be read (%s), so nobody knows the licence.", card, error)
        return None
    named = data.get("license_name") if data.get("license") == "other" else None
    stated = named or data.get("license") or None
    if stated is None:
        return None
    names = stated if isinstance(stated, list) else [stated]
    if any(not isinstance(name, str) for name in names) or len(told := " ".join(", ".join(names).split())) > LONGEST:
        log.warning("%s: its license is neither a name nor a list of names, so nobody knows it.", card)
        return None
    return told or None
