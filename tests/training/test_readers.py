"""Rows that are read by several processes are the rows that one process reads; and no process stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from training import cores, readers
from training.contract import SPLITS, IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import open_snapshot, read_table
from training.sources import ReadFailed, part
from training.store import Store


@pytest.fixture
def many(tmp_path, monkeypatch):
    """:return: a request for 5,000 rows, which are many: a few blocks of them are read by three processes."""
    monkeypatch.setattr(readers, "FEW_ROWS", 300)
    monkeypatch.setattr(readers, "cores", lambda: 3)
    monkeypatch.setattr(part, "BLOCK_BYTES", 10_000)
    for file in range(3):
        rows = [{"text": f"A  film, number {n}", "label": "ab"[n % 2]} for n in range(file * 1500, file * 1500 + 1600)]
        lines = [json.dumps(row) for row in rows]
        lines[7] = '{"text": "  ", "label": "a"}'
        lines[1500] = "no json"
        (tmp_path / f"{file}.jsonl").write_text("\n".join(lines))
    return IngestRequest(
        pipeline="p",
        store=(tmp_path / "store").as_uri(),
        reading=Reading(source=str(tmp_path / "*.jsonl"), text="text", label="label"),
    )


def rows_of(result):
    return read_table(*open_snapshot(result.snapshot), *SPLITS, columns="split, text, label").to_pylist()


def test_several_processes_read_what_one_reads(many, monkeypatch, tmp_path):
    result = ingest(many)
    assert len(list((tmp_path / "store" / "batches").rglob("rows-*.parquet"))) == 4
    monkeypatch.setattr(readers, "cores", lambda: 1)
    alone = ingest(IngestRequest(**{**vars(many), "store": (tmp_path / "alone").as_uri()}))
    assert len(list((tmp_path / "alone" / "batches").rglob("rows-*.parquet"))) == 1
    assert (result.digest, result.dropped) == (alone.digest, alone.dropped)
    assert rows_of(result) == rows_of(alone)


def test_what_cannot_be_used_is_told_in_the_order_of_the_rows(many, tmp_path):
    ingest(many)
    [manifest] = (tmp_path / "store" / "batches").rglob("manifest.json")
    objects = json.loads(manifest.read_text())["objects"]
    assert [one["examples"] for one in objects] == [{"empty text": [8], "broken JSON": [1501]}] * 3
    assert [one["rows"] for one in objects] == [1600] * 3


def test_a_process_that_is_killed_fails_the_run_and_leaves_no_snapshot(many, monkeypatch, tmp_path):
    taking = readers._Process.take

    def killed(self, index, block, split):
        future = taking(self, index, block, split)
        for process in psutil.Process().children():
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
        return future

    monkeypatch.setattr(readers._Process, "take", killed)
    with pytest.raises(ReadFailed, match="was killed, perhaps for want of memory"):
        ingest(many)
    assert not list((tmp_path / "store").rglob("manifest.json"))
    monkeypatch.undo()
    assert ingest(many).rows["train"] > 3000


def test_a_batch_that_is_read_again_replaces_no_file_that_a_manifest_names(many, monkeypatch):
    """Which rows are in which file is another time another matter, so half of one and half of the other is neither."""
    first = ingest(many)
    before = rows_of(first)
    putting = Store.put_directory

    def killed(self, local, key, manifest, *args, **options):
        monkeypatch.setattr(Store, "write_json", lambda *_: pytest.fail("killed"))
        return putting(self, local, key, manifest, *args, **options)

    monkeypatch.setattr(Store, "put_directory", killed)
    monkeypatch.setattr(readers, "cores", lambda: 2)
    with pytest.raises(pytest.fail.Exception):
        ingest(replace(many, force=True))
    assert rows_of(first) == before
    monkeypatch.undo()
    assert ingest(replace(many, force=True)).digest == first.digest
    assert rows_of(first) == before


def test_no_process_outlives_the_one_that_reads(tmp_path):
    (tmp_path / "first.py").write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from training.columns import Judge\n"
        "from training.readers import _Process\n"
        "if __name__ == '__main__':\n"
        "    _Process(Path('none'), 1, Judge((15, 10), None)).close()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "first.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        readers_of_it = psutil.Process(first.pid).children(recursive=True)
        assert readers_of_it
        first.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in readers_of_it):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_may_use_at_least_one_processor():
    assert cores.cores() >= 1
