import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.contract import BadInput, IngestRequest, IngestResult, Unreachable
from training.stage import run
from training.store import Store
from training.text import split_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = [(f"text number {i}", ["neg", "pos"][i % 2]) for i in range(30_000)]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in ROWS))
    request = {
        "pipeline": "films",
        "store": str(tmp_path / "store"),
        "reading": {"source": str(tmp_path / "rows.jsonl"), "text": "text", "label": "label"},
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    return tmp_path


def command(folder, stage="ingest", *options):
    places = ["--in", str(folder / "request.json"), "--out", str(folder / "result.json")]
    return [sys.executable, "-m", "training", stage, *places, *options]


def finish(folder, *options):
    return subprocess.run(command(folder, *options), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def result_in(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_stage_that_is_done_ends_with_0_and_its_result(files):
    ended = finish(files)
    assert ended.returncode == 0, ended.stdout
    result = IngestResult.from_dict(result_in(files))
    assert sum(result.rows.values()) == len(ROWS)
    assert all(line.startswith(("INFO ", "WARNING ")) for line in ended.stdout.splitlines())
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ("{not json", "not JSON"),
        ('{"pipeline": "films"}', "missing keys"),
        (
            '{"pipeline": "p", "store": "s", "reading": {"source": "/no/such/file.csv", "text": "t", "label": "l"}}',
            "matches no file",
        ),
    ],
)
def test_bad_input_ends_with_2_and_the_error(files, request_, named):
    (files / "request.json").write_text(request_)
    ended = finish(files)
    assert ended.returncode == 2
    assert named in result_in(files)["error"]
    assert ended.stdout.startswith("ERROR ")
    assert "Traceback" not in ended.stdout


def test_names_and_labels_in_log_and_error_do_nothing_to_a_terminal(files):
    name = "red\u202e.jsonl"
    (files / "rows.jsonl").rename(files / name)
    request = json.loads((files / "request.json").read_text())
    request["reading"]["source"] = str(files / name)
    (files / "request.json").write_text(json.dumps(request))
    assert "red[U+202E].jsonl: 30,000 rows" in finish(files).stdout
    (files / name).write_text(json.dumps({"text": "one", "\x1b[31mred": "two\u202e"}) + "\n")
    ended = finish(files)
    assert ended.returncode == 2
    assert "red[U+202E].jsonl" in result_in(files)["error"]
    assert not {"\x1b", "\u202e"} & {*ended.stdout, *result_in(files)["error"]}


@pytest.mark.parametrize(("module", "package"), [("duckdb", "duckdb"), ("phonenumbers", "phonenumberslite")])
def test_an_environment_that_is_installed_by_half_says_what_it_lacks(files, module, package):
    request = json.loads((files / "request.json").read_text())
    request["checks"] = {"policies": {"personal_data": "redact"}, "phone_region": "DE"}
    (files / "request.json").write_text(json.dumps(request))
    hide = f"import sys; sys.modules[{module!r}] = None; sys.argv = ['training', *sys.argv[1:]]"
    start = f"{hide}; from training.__main__ import main; sys.exit(main())"
    stage = [sys.executable, "-c", start, *command(files)[3:]]
    ended = subprocess.run(stage, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2, ended.stdout
    assert f"lacks the package {package} " in result_in(files)["error"]
    assert "Traceback" not in ended.stdout


def test_any_other_failure_ends_with_1_and_the_error(files):
    (files / "store").write_text("a file where the store should be")
    ended = finish(files)
    assert ended.returncode == 1
    assert "Error" in result_in(files)["error"]
    assert "Traceback" in ended.stdout


def test_the_result_of_an_earlier_attempt_is_replaced(files):
    (files / "result.json").write_text('{"error": "old"}')
    assert finish(files).returncode == 0
    assert "error" not in result_in(files)
    assert not list(files.glob(".part-*"))


def test_run_needs_no_process_of_its_own(tmp_path):
    (tmp_path / "request.json").write_text(
        json.dumps({"pipeline": "p", "store": "s", "reading": {"source": "x", "text": "t", "label": "l"}})
    )

    def refuse(request):
        raise BadInput(f"{request.reading.source} is bad")

    assert run(refuse, IngestRequest, tmp_path / "request.json", tmp_path / "result.json") == 2
    assert result_in(tmp_path) == {"error": "x is bad"}


CHILD = """
import subprocess, sys
from training import stage
stage.die_with_parent()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def parent():
    """A process that holds the stage's stdin, and prints the ids of the stage and of what the stage started."""
    code = (
        "import subprocess, sys\n"
        "stage = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(stage.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "stage.stdin.close()\n"
        "sys.exit(stage.wait())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-c", CHILD],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stage, process.child = (int(process.stdout.readline()) for _ in range(2))
        assert _alive(process.stage)
        assert _alive(process.child)
        yield process
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.stage, signal.SIGKILL)


def test_the_end_of_stdin_ends_the_stage_and_its_whole_group(parent):
    parent.stdin.close()
    assert parent.wait(10) == 256 - signal.SIGKILL
    assert _gone(parent.stage)
    assert _gone(parent.child)


def test_a_stage_ends_with_a_parent_that_was_sigkilled(parent):
    parent.kill()
    assert _gone(parent.stage)
    assert _gone(parent.child)


def test_sigterm_lets_temporary_files_go(tmp_path):
    code = (
        "import tempfile, time\n"
        "from training.stage import clean_up_on_sigterm\n"
        "clean_up_on_sigterm()\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    folder = Path(process.stdout.readline().strip())
    assert folder.is_dir()
    process.terminate()
    assert process.wait(10) == 128 + signal.SIGTERM
    assert not folder.exists()
    process.stdout.close()


def test_a_stage_killed_at_any_moment_leaves_no_half_snapshot_and_the_retry_mends_it(files):
    chance = random.Random(20261121)
    store = Store(str(files / "store"))
    for _attempt in range(4):
        stage = subprocess.Popen(command(files), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(chance.uniform(0.1, 1.5))
        _kill_group(stage)
        for key in store.list("snapshots"):
            if store.is_complete(key):
                _assert_whole(store, key)
    assert finish(files).returncode == 0
    (key,) = store.list("snapshots")
    _assert_whole(store, key)
    files_of = {path.name for path in Path(store.root.removeprefix("file://")).rglob("*") if path.is_file()}
    assert not [name for name in files_of if name.startswith(".part-")]


def _assert_whole(store, key):
    from training.snapshot import read_split

    for split in ("train", "validation", "test"):
        expected = sorted(row for row in ROWS if split_of(row[0], 15, 10) == split)
        assert sorted(read_split(store, key, split)) == expected


def _kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid, seconds=5.0):
    deadline = time.monotonic() + seconds
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _alive(pid)


def test_a_server_that_is_away_is_worth_a_retry_and_no_traceback(files, caplog):
    def stage(request):
        raise Unreachable("the Hub cannot be reached")

    assert run(stage, IngestRequest, files / "request.json", files / "result.json") == 1
    assert result_in(files) == {"error": "the Hub cannot be reached"}
    [record] = caplog.records
    assert (record.getMessage(), record.exc_info) == ("the Hub cannot be reached", None)
