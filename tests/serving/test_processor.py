"""bf16 is for processors that gain by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.processor import has_fast_bf16


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags\t\t: fpu avx512_bf16 avx512_fp16", False),
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("flags\t\t: fpu avx2", False),
        (None, False),
    ],
)
def test_bf16_is_for_processors_that_multiply_matrices_of_it(tmp_path: Path, flags: str | None, fast: bool) -> None:
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert has_fast_bf16(tmp_path / "cpuinfo") is fast
