"""Know which checkpoints are whole: a kill or a full disk may leave half of one behind."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from training.store import MANIFEST, hash_tree, sha256_file

log = logging.getLogger(__name__)

MARK = "complete.json"  # written last: the SHA-256 of every other file
STATE = "trainer_state.json"
RESUMING = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")
NOT_THE_MODEL = (MARK, STATE, MANIFEST, *RESUMING)


def mark_complete(checkpoint: Path) -> None:
    """Vouch for every file of a checkpoint that has just been saved."""
    part = checkpoint / f".part-{MARK}"
    part.write_text(json.dumps(hash_tree(checkpoint, leave_out=(MARK, part.name))))
    part.replace(checkpoint / MARK)


def is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / MARK).read_text())
        return all(sha256_file(checkpoint / name) == digest for name, digest in files.items())
    except (OSError, ValueError):
        return False


def last_whole(directory: Path) -> Path | None:
    """
    Find where to continue, and remove what is broken.

    A checkpoint counts only together with the best one that it refers to: the final model may come from there.

    :return: the newest usable checkpoint, or None: training starts from the beginning.
    """
    for checkpoint in sorted(directory.glob("checkpoint-*"), key=_step, reverse=True):
        if not is_whole(checkpoint):
            log.warning("%s is incomplete or damaged; falling back to the one before.", checkpoint.name)
            shutil.rmtree(checkpoint)
    for checkpoint in sorted(directory.glob("checkpoint-*"), key=_step, reverse=True):
        best = json.loads((checkpoint / STATE).read_text()).get("best_global_step")
        if not best or (directory / f"checkpoint-{best}").is_dir():
            return checkpoint
        log.warning("%s is of no use: the best epoch's checkpoint-%s is gone.", checkpoint.name, best)
        shutil.rmtree(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def copy_model(checkpoint: Path, target: Path) -> Path:
    """Take the model and its tokenizer out of a checkpoint. :return: ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(*NOT_THE_MODEL))
    return target
