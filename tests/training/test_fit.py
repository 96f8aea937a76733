"""Training leaves a core to whatever else runs beside it."""

from __future__ import annotations

import pytest
import torch

from training import fit


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (16, 15)])
def test_one_core_is_left_to_what_runs_beside(monkeypatch, cores, threads):
    chosen: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(fit, "cores", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    fit.leave_a_core()
    assert chosen == [threads]


def test_who_says_on_how_many_is_obeyed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: pytest.fail("chosen again"))
    fit.leave_a_core()
