from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ratchet.cli import COMMANDS, main
from ratchet.cli.specs import all_specs, spec_path, use_stack_settings
from ratchet.cli.table import table

ROOT = Path(__file__).resolve().parents[2]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command}" in shown.replace("    ", "  ")


def test_what_needs_a_checkout_is_offered_in_a_checkout():
    assert {"up", "down", "status", "logs", "sample"} <= COMMANDS.keys()


def test_the_command_of_a_checkout_works_from_any_directory(tmp_path):
    """``make test`` has written it."""
    command = ROOT / ".venv" / "bin" / "ratchet"
    if not command.exists():
        pytest.skip("this is no checkout that make has set up")
    (tmp_path / "mail.yaml").write_text("data: {source: a, text: b, lable: c}")
    done = subprocess.run(
        [command, "validate", "mail.yaml"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert "mail.yaml:1: data.lable: unknown key" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["deploy"], ["try"], ["try", "x.yaml", "--rows", "0"], ["plan", "a", "b"]])
def test_wrong_usage_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: ratchet" in capsys.readouterr().err


def test_a_spec_that_is_not_valid_ends_with_two_and_its_errors(tmp_path, capsys):
    spec = tmp_path / "mail.yaml"
    spec.write_text("data: {source: a, text: b}")
    for command in ("plan", "try"):
        assert main([command, str(spec)]) == 2
        assert f"{spec}:1: data.label: missing" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["validate", "plan", "try"])
def test_no_command_needs_airflow(command, tmp_path):
    code = (
        "import sys; from ratchet.cli import main\n"
        f"assert main([{command!r}, 'none.yaml']) == 2\n"
        "print(*{m.partition('.')[0] for m in sys.modules} & {'airflow', 'torch', 'mlflow', 'transformers'})"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "none.yaml:1: no such file." in ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == ""


def test_a_pipeline_is_named_by_its_path_or_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_DAGS", str(tmp_path))
    assert spec_path("mail") == tmp_path / "mail.yaml"
    assert spec_path("other/mail.yaml") == Path("other/mail.yaml")
    assert spec_path("mail.yaml") == Path("mail.yaml")


def test_specs_with_the_wrong_suffix_are_found_too_so_that_somebody_hears_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("RATCHET_DAGS", str(tmp_path))
    for name in ("a.yaml", "b.yml", "c.py"):
        (tmp_path / name).touch()
    assert [path.name for path in all_specs()] == ["a.yaml", "b.yml"]


def test_what_the_environment_says_goes_before_the_embedded_stack(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {"RATCHET_HOME": str(tmp_path), "AIRFLOW__RATCHET__STORE": "s3://acme/store"})
    use_stack_settings()
    assert os.environ["AIRFLOW__RATCHET__STORE"] == "s3://acme/store"
    assert os.environ.get("AIRFLOW__RATCHET__WORK") in (None, str(tmp_path / "work"))


def test_columns_are_aligned():
    assert table([("a", "bb", "c"), ("aaa", "b", "")], indent=" ") == " a    bb  c\n aaa  b   "
