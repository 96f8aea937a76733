"""A disk that is full is told from what a retry cannot mend, whoever met it."""

import errno

import pytest

from training.room import no_room


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/store/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError('IO Error: Could not write file "/store/x": No space left on device'),
        RuntimeError("failed to offload data block: This limit was set by the 'max_temp_directory_size' setting."),
    ],
)
def test_a_full_disk_is_told_with_what_to_do(error):
    assert "Make room" in no_room(error)


def test_a_full_disk_behind_another_error_is_told():
    error = ValueError("not written")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "No space left on device" in no_room(error)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), ValueError("no"), None])
def test_another_error_is_none(error):
    assert no_room(error) is None
