"""What is prepared in a directory is gone afterwards, also when the process was killed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.servers import ROOT
from training.contract import BadInput
from training.scratch import scratch_directory

KILLED = """
import os, sys
from pathlib import Path
from training.scratch import scratch_directory

with scratch_directory("killed-", Path(sys.argv[1])) as made:
    (made / "texts").write_text("somebody's")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_it_is_gone_afterwards_and_nobody_else_can_look(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_directory("test-") as made:
        (made / "file").touch()
        assert made.stat().st_mode & 0o077 == 0
        assert made.parent.stat().st_mode & 0o077 == 0
    assert not made.exists()


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == b"ready\n"
        with scratch_directory("test-", tmp_path) as made:
            [theirs] = [path for path in tmp_path.iterdir() if path != made]
            assert (theirs / "texts").exists()
        other.send_signal(signal.SIGKILL)
    assert theirs.exists()
    with scratch_directory("test-", tmp_path):
        assert not theirs.exists()


def test_a_directory_that_was_taken_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    make, made = tempfile.mkdtemp, []

    def taken_at_once(**how):
        made.append(make(**how))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken_at_once)
    with scratch_directory("test-", tmp_path) as scratch:
        (scratch / "file").touch()
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(BadInput, match=r"/theirs cannot be written \(Permission denied\)\. Nothing was done"),
        scratch_directory("test-", tmp_path / "theirs"),
    ):
        pass
