from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.utils.file import might_contain_dag

from ratchet.stub import stub_text, write_stub

ROOT = Path(__file__).resolve().parents[2]


def test_every_spec_of_the_repository_has_its_stub_and_every_stub_its_spec():
    specs = {path.stem for path in (ROOT / "dags").glob("*.yaml")}
    files = {path.stem: path.read_text() for path in (ROOT / "dags").glob("*.py")}
    stubs = {name for name, text in files.items() if text == stub_text(name)}
    assert specs == stubs, "run: ratchet validate"
    assert set(files) - stubs == {"ratchet_reconcile", "ratchet_rollback"}  # one for all pipelines each


def test_airflow_does_not_pass_over_a_stub(tmp_path):
    (tmp_path / "mail.py").write_text(stub_text("mail"))
    assert might_contain_dag(str(tmp_path / "mail.py"), safe_mode=True)


def test_a_stub_is_written_once_and_an_edited_one_is_kept(tmp_path):
    spec, stub = tmp_path / "mail.yaml", tmp_path / "mail.py"
    assert write_stub(spec) == stub
    edited = stub.read_text() + "dag.tags.add('mine')\n"
    stub.write_text(edited)
    assert write_stub(spec) is None
    assert stub.read_text() == edited


def test_a_file_that_is_no_stub_is_never_written_over(tmp_path):
    (tmp_path / "mail.py").write_text("print('mine')")
    with pytest.raises(FileExistsError, match="is not a stub"):
        write_stub(tmp_path / "mail.yaml")
    assert (tmp_path / "mail.py").read_text() == "print('mine')"


def test_a_broken_spec_is_an_error_of_its_own_stub_that_names_file_and_line(tmp_path):
    spec = tmp_path / "mail.yaml"
    spec.write_text("data:\n  source: a.csv\n  text: b\n  lable: c\n")
    stub = write_stub(spec)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "AIRFLOW_HOME": str(tmp_path / "airflow")}
    run = subprocess.run([sys.executable, str(stub)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert f"{spec}:4: data.lable: unknown key; did you mean 'label'?" in run.stderr
