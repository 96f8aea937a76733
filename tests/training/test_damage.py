"""What is damaged is told and passed over; what is merely away is not."""

import errno

import duckdb
import pyarrow
import pytest

from training.contract import BadInput, Unreachable
from training.damage import Damage

PLACE = "file:///store/place"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Expecting value"),
        KeyError("texts"),
        BadInput("its manifest is damaged"),
        FileNotFoundError("gone"),
        pyarrow.ArrowInvalid("no magic bytes"),
        OSError("Couldn't deserialize thrift"),
        duckdb.InvalidInputException("no magic bytes"),
        duckdb.Error("don't know what type"),
    ],
)
def test_what_is_damaged_is_named_once(error):
    damage = Damage()
    for _time in range(2):
        with damage.passed_over(PLACE):
            raise error
    [told] = damage.told
    assert told.startswith(f"{PLACE} is damaged, so that nobody can tell what it holds ({type(error).__name__}: ")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("away"),
        TimeoutError("no answer"),
        PermissionError(errno.EACCES, "not allowed"),
        OSError(errno.ENOSPC, "No space left on device"),
        duckdb.IOException("No space left on device"),
        duckdb.Error("Traceback (most recent call last):\nConnectionError: away"),
        Unreachable("MLflow is away"),
    ],
)
def test_what_a_retry_may_find_whole_is_raised(error):
    damage = Damage()
    with pytest.raises(type(error)), damage.passed_over(PLACE):
        raise error
    assert damage.told == []
