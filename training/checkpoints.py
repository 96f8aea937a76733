"""Know which checkpoints are whole: a kill or a full disk may leave half of one behind."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from training.stage import write_result
from training.store import MANIFEST, hash_tree, sha256_file

log = logging.getLogger(__name__)

MARK = "complete.json"  # written last: the SHA-256 of every other file
STATE = "trainer_state.json"
RESUMING = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin")
NOT_THE_MODEL = (MARK, STATE, MANIFEST, *RESUMING)


def mark_complete(checkpoint: Path) -> None:
    """Vouch for every file of a checkpoint that has just been saved, once the disk has them."""
    files = hash_tree(checkpoint, leave_out=(MARK,))
    for name in files:
        with (checkpoint / name).open("rb") as file:
            os.fsync(file.fileno())
    write_result(checkpoint / MARK, json.dumps(files))


@contextlib.contextmanager
def none_half_saved(directory: Path) -> Iterator[None]:
    """
    Remove a checkpoint that could not be saved, so that a retry has its space.

    :raises OSError: in place of the saver's own error; of a full disk torch says "enforce fail at inline_container.cc".
    """
    try:
        yield
    except Exception as error:
        half = [checkpoint for checkpoint in directory.glob("checkpoint-*") if not (checkpoint / MARK).exists()]
        if not half:
            raise
        disk = shutil.disk_usage(directory)
        for checkpoint in half:
            shutil.rmtree(checkpoint, ignore_errors=True)
        raise OSError(
            f"{half[0]} could not be saved ({type(error).__name__}: {error}) and was removed. Its disk had "
            f"{disk.free / 1e6:,.0f} MB left of {disk.total / 1e6:,.0f} MB; if that was too little, make room. A retry "
            "continues from the checkpoint before."
        ) from error


def keep_two(directory: Path) -> None:
    """
    Leave the newest checkpoint and its best one; where that is the same, the best one before it, to fall back to.

    Call it when the newest is known to be whole.
    """
    newest, *older = sorted(directory.glob("checkpoint-*"), key=_step, reverse=True)
    kept = {newest, _best_of(newest)}
    if len(kept) == 1 and older:
        kept.add(_best_of(older[0]))
    for checkpoint in older:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint)


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
        best = _best_of(checkpoint)
        if best.is_dir():
            return checkpoint
        log.warning("%s is of no use: the best epoch's %s is gone.", checkpoint.name, best.name)
        shutil.rmtree(checkpoint)
    return None


def _best_of(checkpoint: Path) -> Path:
    """:return: the best checkpoint when this one was saved; itself, while no epoch had been measured."""
    best = json.loads((checkpoint / STATE).read_text()).get("best_global_step")
    return checkpoint.with_name(f"checkpoint-{best}") if best else checkpoint


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def copy_model(checkpoint: Path, target: Path) -> Path:
    """Take the model and its tokenizer out of a checkpoint. :return: ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(*NOT_THE_MODEL))
    return target
