"""Up and down with a real supervisord and small programs in the places of Airflow and MLflow."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ratchet.cli.stack import commands, lifecycle
from ratchet.cli.stack.programs import MARK, Program
from ratchet.cli.stack.settings import Settings, StackError
from ratchet.cli.stack.supervisor import Supervisor
from serving.environment import INHERITED

SERVER = "import http.server, os, sys; print('serving', os.environ['GREETING'], flush=True); " + (
    "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
)
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# A task in flight: deaf to SIGTERM and in a session of its own, as a stage is
STUBBORN = (
    "import signal, subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', "
    "'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'], start_new_session=True); "
    "time.sleep(600)"
)
# A server behind a main process, as MLflow's
FORKED_SERVER = f"import subprocess, sys; subprocess.call([sys.executable, '-c', {SERVER!r}, *sys.argv[1:]])"
# Two workers, of which one has a task, in a group of its own as Airflow's have
SCHEDULER = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
busy = (
    "import subprocess, sys, time; "
    f"task = subprocess.Popen({sleep!r}, process_group=0); print('task', task.pid, flush=True); task.wait(); "
    "time.sleep(600)"
)
if not os.path.exists("began"):
    open("began", "w").close()
    print("idle", subprocess.Popen(sleep).pid, flush=True)
    print("busy", subprocess.Popen([sys.executable, "-c", busy]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """Settings of a stack that is down, and comes down after the test."""
    python = tmp_path / "checkout" / ".venv-training" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    # a home with what supervisord could take for a format, and a space
    settings = Settings(home=tmp_path / "100%s %d%%(x)s", checkout=tmp_path / "checkout", dags=tmp_path / "dags")
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    monkeypatch.setattr("ratchet.cli.stack.supervisor.STOP_SECONDS", 2)
    yield settings
    lifecycle.down(settings, tell=lambda text: None)
    if settings.control_socket.parent != settings.run:
        settings.control_socket.parent.rmdir()


@pytest.fixture
def runs(monkeypatch):
    """Decide what the stack's programs are."""

    def decide(*made):
        monkeypatch.setattr(lifecycle, "programs", lambda settings: [make(settings) for make in made])

    decide(server)
    return decide


def server(settings: Settings) -> Program:
    address = settings.url("mlflow")
    command = [sys.executable, "-c", SERVER, str(settings.ports["mlflow"])]
    return Program("server", command, {"GREETING": "%(x)s 'a' \"b\", c"}, address=address, ready=address)


def up(settings: Settings) -> list[str]:
    told: list[str] = []
    lifecycle.up(settings, tell=told.append)
    return told


def marked(settings: Settings) -> list[psutil.Process]:
    return Supervisor(settings).processes_left()


def answers(settings: Settings) -> bool:
    try:
        return urllib.request.urlopen(settings.url("mlflow"), timeout=5).status == 200
    except OSError:
        return False


def eventually(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


def leader(settings: Settings) -> int:
    return int((settings.run / "supervisord.pid").read_text())


def test_after_up_everything_answers_and_after_down_no_process_and_no_port_is_left(stack, runs):
    up(stack)
    assert answers(stack)
    port = stack.ports["mlflow"]
    lifecycle.down(stack, tell=lambda text: None)
    assert marked(stack) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_value_reaches_its_program_whatever_characters_it_has(stack, runs):
    up(stack)
    log = Supervisor(stack).log_file("server")
    assert eventually(lambda: "serving %(x)s 'a' \"b\", c" in log.read_text())


def test_a_program_inherits_only_what_it_names(stack, runs, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "http://mlflow.example")
    runs(server, lambda settings: Program("plain", SLEEPER, {}, ready=settings.url("mlflow"), inherits=INHERITED))
    told = up(stack)
    assert "AIRFLOW_CONN_MLFLOW_DEFAULT of this shell is not used" in told[0]
    environments = {
        name: psutil.Process(process["pid"]).environ() for name, process in Supervisor(stack).processes().items()
    }
    assert environments["server"]["HF_TOKEN"] == "hunter2"
    assert "hunter2" not in environments["plain"].values()
    assert environments["plain"][MARK] == str(stack.home)


def test_up_twice_changes_nothing(stack, runs):
    up(stack)
    before = {process.pid for process in marked(stack)}
    assert up(stack) == ["The stack is up."]
    assert {process.pid for process in marked(stack)} == before


def test_two_ups_at_once_make_one_stack(stack, runs):
    with ThreadPoolExecutor() as pool:
        told = [text for texts in pool.map(up, [stack, stack]) for text in texts]
    assert "The stack is up." in told
    assert len(marked(stack)) == 2  # supervisord and the server


def test_another_port_moves_the_stack_there(stack, runs, monkeypatch):
    up(stack)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_PORT", str(other))
    up(stack)
    assert stack.ports["mlflow"] == other
    assert answers(stack)


def test_a_program_that_crashes_comes_back(stack, runs):
    up(stack)
    time.sleep(2.5)  # supervisord calls a program started after 2 s, and retries one that ended before
    pid = Supervisor(stack).processes()["server"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: Supervisor(stack).processes()["server"]["pid"] not in (0, pid) and answers(stack))


def kill_main(settings: Settings, name: str) -> None:
    """Kill a program's main process alone, and return when supervisord has started another."""
    supervisor = Supervisor(settings)
    assert eventually(lambda: supervisor.processes()[name]["statename"] == "RUNNING")
    pid = supervisor.processes()[name]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: supervisor.processes()[name]["pid"] not in (0, pid))


def test_a_child_that_outlives_its_program_does_not_keep_the_port_from_the_next(stack, runs):
    def forked_server(settings: Settings) -> Program:
        made = server(settings)
        return dataclasses.replace(made, command=[sys.executable, "-c", FORKED_SERVER, made.command[-1]])

    runs(forked_server)
    up(stack)
    [child] = psutil.Process(Supervisor(stack).processes()["server"]["pid"]).children()
    kill_main(stack, "server")
    assert eventually(lambda: not child.is_running() and answers(stack))
    assert len(marked(stack)) == 3  # supervisord, the server's main process and its child


def test_of_a_program_that_was_killed_a_worker_ends_when_it_has_no_task(stack, runs):
    runs(lambda settings: Program("scheduler", [sys.executable, "-c", SCHEDULER], {}))
    monitor = Supervisor(stack)

    def told() -> dict[str, psutil.Process]:
        words = monitor.log_file("scheduler").read_text().split()
        return {name: psutil.Process(int(words[words.index(name) + 1])) for name in ("idle", "busy", "task")}

    stack.make_directories()
    stack.choose_ports({})
    monitor.start(lifecycle.programs(stack))
    assert eventually(lambda: "task" in monitor.log_file("scheduler").read_text())
    found = told()
    kill_main(stack, "scheduler")
    assert eventually(lambda: not found["idle"].is_running())
    assert found["busy"].is_running()
    assert found["task"].is_running()
    found["task"].kill()
    kill_main(stack, "scheduler")
    assert eventually(lambda: not found["busy"].is_running())


def test_a_program_waits_for_the_one_that_it_needs_whoever_starts_it(stack, runs):
    asking = "import sys, time, urllib.request; urllib.request.urlopen(sys.argv[1]); print('asked', flush=True); "

    def slow_server(settings: Settings) -> Program:
        made = server(settings)
        return dataclasses.replace(
            made, command=[*made.command[:2], "import time; time.sleep(3); " + SERVER, made.command[-1]]
        )

    def dependent(settings: Settings) -> Program:
        url = settings.url("mlflow")
        return Program("dependent", [sys.executable, "-c", asking + "time.sleep(600)", url], {}, ready=url, after=url)

    runs(slow_server, dependent)
    up(stack)
    log = Supervisor(stack).log_file("dependent")
    assert eventually(lambda: log.read_text().count("asked") == 1)
    os.kill(Supervisor(stack).processes()["server"]["pid"], signal.SIGKILL)
    kill_main(stack, "dependent")
    assert eventually(lambda: log.read_text().count("asked") == 2)
    assert "Traceback" not in log.read_text()


def test_down_ends_the_children_of_a_supervisord_that_was_killed(stack, runs):
    up(stack)
    os.kill(leader(stack), signal.SIGKILL)
    assert eventually(lambda: len(marked(stack)) == 1)
    lifecycle.down(stack, tell=lambda text: None)
    assert marked(stack) == []


def test_down_ends_what_hides_its_environment(stack, runs, monkeypatch):
    up(stack)
    pid = Supervisor(stack).processes()["server"]["pid"]
    environ = psutil.Process.environ

    def hidden(process):
        if process.pid == pid:
            raise psutil.AccessDenied(pid)
        return environ(process)

    monkeypatch.setattr(psutil.Process, "environ", hidden)
    os.kill(leader(stack), signal.SIGKILL)
    lifecycle.down(stack, tell=lambda text: None)
    assert not answers(stack)


def test_up_replaces_what_a_killed_supervisord_left(stack, runs):
    up(stack)
    port = stack.ports["mlflow"]
    os.kill(leader(stack), signal.SIGKILL)
    eventually(lambda: len(marked(stack)) == 1)
    up(stack)
    assert answers(stack)
    assert stack.ports["mlflow"] == port


def test_down_ends_a_task_that_left_its_process_group_and_does_not_listen(stack, runs):
    runs(server, lambda settings: Program("task", [sys.executable, "-c", STUBBORN], {}, ready=settings.url("mlflow")))
    up(stack)
    assert eventually(lambda: len(marked(stack)) == 4)
    lifecycle.down(stack, tell=lambda text: None)
    assert marked(stack) == []


def test_processes_of_another_stack_are_left_alone(stack, runs, tmp_path):
    up(stack)
    neighbour = subprocess.Popen(SLEEPER, env={**os.environ, MARK: str(tmp_path / "home2")})
    try:
        lifecycle.down(stack, tell=lambda text: None)
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()


def test_an_up_that_fails_shows_the_last_words_and_leaves_no_process(stack, runs):
    def broken(settings: Settings) -> Program:
        script = "import sys; print('no such table: models'); sys.exit(7)"
        return Program("broken", [sys.executable, "-c", script], {}, ready="http://127.0.0.1:9/")

    runs(server, broken)
    with pytest.raises(StackError, match="no such table: models") as raised:
        up(stack)
    assert "broken ended again and again; the stack was stopped." in str(raised.value)
    assert marked(stack) == []


def test_a_program_that_never_answers_fails_the_up_in_time(stack, runs, monkeypatch):
    monkeypatch.setattr(lifecycle, "START_SECONDS", 2)
    runs(lambda settings: Program("mute", SLEEPER, {}, ready="http://127.0.0.1:9/"))
    with pytest.raises(StackError, match="mute did not answer within 2 s"):
        up(stack)
    assert marked(stack) == []


def test_without_the_training_environment_nothing_is_started(stack, runs):
    stack.training_python.unlink()
    with pytest.raises(StackError, match="make install"):
        up(stack)
    assert not stack.home.exists()


def test_status_shows_what_runs_and_what_does_not(stack, runs, capsys):
    assert commands.show_status(stack) == 0
    assert "down" in capsys.readouterr().out
    up(stack)
    assert eventually(lambda: lifecycle.status(stack)[0][1] == "running")
    assert commands.show_status(stack) == 0
    told = capsys.readouterr().out
    assert "server" in told
    assert stack.url("mlflow") in told


def test_status_does_not_say_of_what_does_not_answer_that_it_runs(stack, runs, capsys):
    up(stack)
    assert eventually(lambda: lifecycle.status(stack)[0][1] == "running")
    os.kill(Supervisor(stack).processes()["server"]["pid"], signal.SIGSTOP)
    assert commands.show_status(stack) == 1
    assert "not answering" in capsys.readouterr().out


def test_logs_of_an_unknown_program_name_the_known_ones(stack, runs):
    up(stack)
    with pytest.raises(StackError, match="server"):
        commands.show_logs(stack, "sever", follow=False)


def test_no_file_of_a_running_stack_gives_a_secret_to_others(stack, runs):
    up(stack)
    secrets = {*stack.secrets.values(), *stack.passwords.values()}
    for path in (path for path in Path(stack.home).rglob("*") if path.is_file()):
        if any(secret in path.read_text(errors="replace") for secret in secrets):
            assert path.stat().st_mode & 0o077 == 0, path


def test_an_up_does_not_wait_for_ever_for_another(stack, runs, monkeypatch):
    monkeypatch.setattr(lifecycle, "LOCK_SECONDS", 0)
    stack.make_directories()
    with lifecycle._locked(stack), pytest.raises(StackError, match=r"has held .*lock for 0 s; nothing was changed"):
        up(stack)


def test_what_failed_stages_left_is_dropped_when_it_is_old(stack):
    requests = stack.home / "work" / "requests"
    for name, days in (("train-old", lifecycle.KEPT_DAYS + 1), ("train-new", 1)):
        (requests / name).mkdir(parents=True)
        then = time.time() - days * 24 * 3600
        os.utime(requests / name, (then, then))
    lifecycle.drop_old_requests(stack)
    assert [path.name for path in requests.iterdir()] == ["train-new"]
