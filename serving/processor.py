"""What this machine's processor is good at."""

from __future__ import annotations

from pathlib import Path


def has_fast_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """
    :return: whether bf16 gains anything: Intel's AMX multiplies whole matrices of it, and so do arm64's instructions.
        avx512_bf16 alone does not help: a 22M-parameter BERT trains in 1.8 times the time of fp32 and answers in 1.03
        to 1.3 times (measured). Where nobody says, as on macOS: no.
    """
    if not cpuinfo.exists():
        return False
    flags = {flag for line in cpuinfo.read_text().splitlines() for flag in line.split()}
    return bool(flags & {"amx_bf16", "bf16"})  # the second one on arm64
