"""What the tests start ends with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from tests.servers import ROOT, free_port

TEST_RUN = """
import sys, time
from pathlib import Path
from tests.servers import running
port = sys.argv[1]
command = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"]
with running(command, f"http://127.0.0.1:{port}/", Path(sys.argv[2])) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


def test_a_server_of_a_test_run_that_is_killed_ends(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", TEST_RUN, str(free_port()), str(tmp_path / "log")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        guard = psutil.Process(int(run.stdout.readline()))
        [server] = guard.children()
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _lives(guard) or _lives(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
