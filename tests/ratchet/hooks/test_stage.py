"""Stages run in processes of their own, and end with whoever started them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from importlib.machinery import ModuleSpec
from pathlib import Path

import psutil
import pytest

import training
from ratchet.hooks import stage as stage_hook
from ratchet.hooks.stage import StageFailed, StageProcess, end_with_worker, run_stage
from training.contract import BadInput, Message

REAL = Path(training.__file__).parent


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    marker: str = "x"


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """A ``training`` package whose ``__main__`` the test writes; the rest of the contract is the real one."""
    packages = tmp_path / "packages"
    for name in ("training", "serving"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").touch()
    for name in ("contract.py", "credentials.py", "missing.py", "room.py", "stage.py", "visible.py"):
        (packages / "training" / name).symlink_to(REAL / name)

    def find(name):
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(packages / name)]
        return spec

    monkeypatch.setattr(stage_hook, "find_spec", find)

    def write(body):
        (packages / "training" / "__main__.py").write_text(
            "import json, os, signal, subprocess, sys, time\n"
            "from training.stage import die_with_parent\n"
            "if '--watch-stdin' in sys.argv: die_with_parent()\n"
            "def result(value): open('result.json', 'w').write(json.dumps(value))\n" + textwrap.dedent(body)
        )

    return write


def run(tmp_path, log=None, **options):
    return run_stage(
        "train", Request(), python=sys.executable, work=tmp_path, log=log or (lambda line: None), **options
    )


def test_a_stage_is_stopped_at_its_deadline_and_said_to_be(stages, tmp_path):
    stages("print('INFO waiting'); time.sleep(600)")
    lines = []
    with pytest.raises(StageFailed, match=r"^train did not end within 1 s and was stopped\.$"):
        run(tmp_path, lines.append, timeout=timedelta(seconds=1))


def test_a_stage_that_ends_in_time_is_not_stopped(stages, tmp_path):
    stages("result({'made': 1})")
    assert run(tmp_path, timeout=timedelta(seconds=30)) == {"made": 1}


def gone(pid):
    """A zombie has ended; only its parent has not looked yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_result_comes_back_and_nothing_is_left_in_the_work_directory(stages, tmp_path):
    stages("result({'answer': json.load(open('request.json'))['marker']})")
    assert run(tmp_path) == {"answer": "x"}
    assert list((tmp_path / "requests").iterdir()) == []


def test_lines_arrive_while_the_stage_is_still_running(stages, tmp_path):
    stages("print('INFO first'); time.sleep(1.5); print('INFO second'); result({})")
    arrivals = []
    run(tmp_path, log=lambda line: arrivals.append((line, time.monotonic())))
    assert [line for line, _ in arrivals] == ["INFO first", "INFO second"]
    assert arrivals[1][1] - arrivals[0][1] > 1


def test_bad_input_is_told_from_bad_luck(stages, tmp_path):
    stages("result({'error': 'rows.csv, row 3: no label'}); sys.exit(2)")
    with pytest.raises(BadInput, match=r"rows\.csv, row 3"):
        run(tmp_path)
    stages("result({'error': 'disk full'}); sys.exit(1)")
    with pytest.raises(StageFailed, match="disk full"):
        run(tmp_path)
    stages("os.kill(os.getpid(), signal.SIGKILL)")  # as the kernel does when memory runs out
    with pytest.raises(StageFailed, match=r"train failed \(ended by SIGKILL"):
        run(tmp_path)


def test_a_success_without_a_result_is_a_failure(stages, tmp_path):
    stages("pass")
    with pytest.raises(StageFailed, match="no result"):
        run(tmp_path)


def test_the_log_of_a_failure_ends_with_a_command_that_repeats_the_stage(stages, tmp_path):
    stages("result({'error': 'again: ' + json.load(open('request.json'))['marker']}); sys.exit(2)")
    lines = []
    with pytest.raises(BadInput):
        run(tmp_path, log=lines.append)
    command = lines[-1].partition("without Airflow: ")[2]
    answer = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, check=False)
    assert answer.returncode == 2
    [directory] = (tmp_path / "requests").iterdir()
    assert json.loads((directory / "result.json").read_text()) == {"error": "again: x"}


def test_airflows_secrets_do_not_reach_the_stage(stages, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS", "aws://key:planted-secret@")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "planted-secret")
    monkeypatch.setenv("RATCHET_ENDPOINT_TOKEN", "planted-secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "planted-secret")
    stages("result({'environment': dict(os.environ)})")
    environment = run(tmp_path, env={"MLFLOW_TRACKING_USERNAME": "anna"})["environment"]
    assert "planted-secret" not in json.dumps(environment)
    assert environment["MLFLOW_TRACKING_USERNAME"] == "anna"


def test_the_directories_of_the_users_own_modules_reach_the_stage(stages, tmp_path):
    stages("result({'path': os.environ['RATCHET_TRAINING_PATH']})")
    assert run(tmp_path, path=[str(tmp_path / "mine"), "/other"]) == {"path": f"{tmp_path / 'mine'}{os.pathsep}/other"}


def test_stopping_ends_a_stage_that_ignores_sigterm_and_its_children_within_5_seconds(stages, tmp_path):
    stages("""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
        print(os.getpid(), child.pid)
        time.sleep(600)
    """)
    stage = StageProcess("train", Request(), python=sys.executable, work=tmp_path)
    lines, failure = [], []

    def start():
        try:
            stage.run(lines.append)
        except StageFailed as error:
            failure.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    wait_until(lambda: lines)
    began = time.monotonic()
    stage.stop()
    thread.join()
    assert time.monotonic() - began < 5
    assert "was stopped" in str(failure[0])
    for pid in map(int, lines[0].split()):
        wait_until(lambda pid=pid: gone(pid))


ITSELF = ""
# As Airflow does it: a socket for stdin, a group of its own, and a parent that only watches
IN_A_TASK = """
import os, socket
mine, its = socket.socketpair()
if task := os.fork():
    os.waitpid(task, 0)
    os._exit(0)
os.setpgid(0, 0)
os.dup2(its.fileno(), 0)
"""


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(ITSELF, id="that runs it"),
        pytest.param(
            IN_A_TASK,
            id="whose task runs it",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process of its parent's end"),
        ),
    ],
)
def test_a_killed_worker_takes_a_silent_stage_with_it(stages, tmp_path, where):
    """SIGKILL runs no clean-up, so it is the stage that notices."""
    stages("""
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
        open(os.environ['PIDS'], 'w').write(f'{os.getpid()} {child.pid}')
        time.sleep(600)
    """)
    pids = tmp_path / "pids"
    packages = tmp_path / "packages"
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            where + "import sys, pathlib, importlib.machinery as m\n"
            "from ratchet.hooks import stage\n"
            "from training.contract import Message\n"
            "def find(name):\n"
            "    spec = m.ModuleSpec(name, None, is_package=True)\n"
            f"    spec.submodule_search_locations = [{str(packages)!r} + '/' + name]\n"
            "    return spec\n"
            "stage.find_spec = find\n"
            f"work = pathlib.Path({str(tmp_path)!r})\n"
            "stage.end_with_worker()\n"
            "stage.run_stage('train', Message(), python=sys.executable, work=work, log=print)",
        ],
        env={**os.environ, "PIDS": str(pids), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, seconds=20)
        stage, child = map(int, pids.read_text().split())
        assert not gone(stage)
        assert not gone(child)
        worker.send_signal(signal.SIGKILL)
        wait_until(lambda: gone(stage) and gone(child), seconds=5)
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the setting")
def test_a_process_that_no_worker_watches_outlives_its_parent():
    end_with_worker()
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
    assert number.value == 0
