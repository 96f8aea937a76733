"""
Say how much memory a release takes: ``python -m serving.memory --release DIR`` prints the bytes.

It is by how much this process grows when it loads the release and answers one text; what a server needs without any
release is not counted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import psutil

import serving.__main__  # what a server has loaded before its release, without torch as there
from serving.model import load_model
from serving.release import BadRelease, read_release


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m serving.memory", description="Say how much memory a release takes."
    )
    parser.add_argument("--release", type=Path, required=True, metavar="DIR")
    directory = parser.parse_args().release
    import openvino  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401

    before = psutil.Process().memory_info().rss
    try:
        model = load_model(read_release(directory))
    except BadRelease as error:
        print(error, file=sys.stderr)
        return serving.__main__.EXIT_BAD_RELEASE
    model.warm_up()
    print(max(0, psutil.Process().memory_info().rss - before))
    return 0


if __name__ == "__main__":
    sys.exit(main())
