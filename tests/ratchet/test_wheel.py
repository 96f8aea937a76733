"""The wheel brings operators, factory, links and command line into an environment of Airflow and itself alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.servers import training_python

ROOT = Path(__file__).parents[2]
SOURCE = ("plugins", "training", "serving", "pyproject.toml", "README.md", "LICENSE", ".gitignore")

# mlflow the package has the flavours and the server; mlflow-skinny, which is allowed, has the client
HEAVY_PACKAGES = {"torch", "transformers", "datasets", "accelerate", "mlflow", "openvino", "scikit-learn"}
HEAVY_PACKAGES |= {"numpy", "pandas", "pyarrow"}
HEAVY_MODULES = HEAVY_PACKAGES | {"sklearn"}

SPEC = "data:\n  source: rows.csv\n  text: utterance\n  label: intent\n"
TASKS = {"intents": 6, "example_steps_by_hand": 6, "example_judge_two_versions": 2, "example_deploy_any_model": 1}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Built from a copy: the checkout stays as it is."""
    directory = tmp_path_factory.mktemp("wheel")
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, directory / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory]
    subprocess.run([*command, directory / "source"], check=True)
    [built] = directory.glob("*.whl")
    return built


class Installed:
    """The environment with the wheel in it; nothing of the checkout can be imported there."""

    def __init__(self, directory: Path, home: Path):
        self.directory = directory
        self.home = home

    def run(self, *command, cwd=None, **variables):
        """Run a program of the environment. :return: what it did; its exit status is the caller's to judge."""
        program, *arguments = command
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **variables,
        }
        return subprocess.run(
            [self.directory / "bin" / program, *arguments],
            cwd=cwd or self.home,
            env=environment,
            capture_output=True,
            text=True,
        )

    def evaluate(self, code, **variables):
        """:return: the JSON that ``code`` prints last."""
        done = self.run("python", "-c", code, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory)
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        directory / "bin" / "python",
        "install",
        "--quiet",
        "--no-compile",
    ]
    subprocess.run([*install, wheel, "--constraint", ROOT / "requirements.lock"], check=True)
    return Installed(directory, tmp_path_factory.mktemp("airflow"))


def test_the_wheel_holds_what_running_needs_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "ratchet",
        "ratchet_plugin.py",
        "serving",
        "training",
    }
    assert {
        "ratchet/spec.schema.json",
        "ratchet/py.typed",
        "training/requirements.txt",
        "training/requirements.lock",
    } <= names
    assert "training/requirements-dev.txt" not in names
    assert not [name for name in names if name.startswith(("ratchet/cli/stack", "ratchet/cli/sample"))]


def test_no_machine_learning_comes_with_it(installed):
    code = """
import json
from importlib.metadata import distributions
print(json.dumps([distribution.name.lower() for distribution in distributions()]))
"""
    names = installed.evaluate(code)
    assert "apache-airflow-core" in names
    assert HEAVY_PACKAGES.isdisjoint(names)


def test_airflow_lists_the_provider_and_its_settings(installed):
    code = """
import json
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager
manager = ProvidersManager()
options = dict(manager.provider_configs)["ratchet-airflow"]["ratchet"]["options"]
version = manager.providers["ratchet-airflow"].version
print(json.dumps([version, sorted(options), conf.get("ratchet", "store")]))
"""
    version, options, store = installed.evaluate(code, AIRFLOW__RATCHET__STORE="file:///models")
    assert version == "0.1.0"
    assert options == ["store", "training_path", "training_python", "work"]
    assert store == "file:///models"


def test_airflow_loads_the_plugin_with_its_links(installed):
    code = """
import json
from airflow import plugins_manager
[plugin] = [p for p in plugins_manager.get_plugin_info() if p["name"] == "ratchet"]
print(json.dumps([str(plugin["source"]), len(plugin["operator_extra_links"]), plugins_manager.get_import_errors()]))
"""
    source, links, errors = installed.evaluate(code)
    assert "ratchet-airflow" in source
    assert links == 5
    assert errors == {}


def test_dag_files_load_there_without_anything_heavy(installed, tmp_path):
    shutil.copytree(ROOT / "plugins" / "ratchet" / "example_dags", tmp_path / "examples")
    (tmp_path / "intents.yaml").write_text(SPEC)
    validated = installed.run("ratchet", "validate", "intents.yaml", cwd=tmp_path)
    assert validated.returncode == 0, validated.stdout + validated.stderr
    assert (tmp_path / "intents.py").exists()

    code = f"""
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({str(tmp_path)!r})
tasks = {{dag_id: len(dag.tasks) for dag_id, dag in bag.dags.items()}}
print(json.dumps([tasks, bag.import_errors, sorted(sys.modules), sys.modules["ratchet"].__file__]))
"""
    tasks, errors, modules, origin = installed.evaluate(code)
    assert errors == {}
    assert tasks == TASKS
    assert HEAVY_MODULES.isdisjoint(modules)
    assert Path(origin).is_relative_to(installed.directory)


def test_the_command_line_refuses_a_broken_spec_there(installed, tmp_path):
    (tmp_path / "intents.yaml").write_text(SPEC.replace("label:", "lable:"))
    refused = installed.run("ratchet", "validate", "intents.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "intents.yaml:4: data.lable" in refused.stdout


def test_the_command_line_explains_itself_there(installed):
    shown = installed.run("ratchet", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "validate" in shown.stdout


def test_a_stage_runs_from_the_wheel_in_a_training_environment_beside_it(installed, tmp_path):
    """Nothing of Ratchet is installed in the training environment: the stage gets its code from the wheel."""
    rows = [f"{word} film number {n},{label}" for word, label in (("good", "pos"), ("bad", "neg")) for n in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    code = f"""
import json
from ratchet import settings
from ratchet.hooks.stage import run_stage
from training.contract import IngestRequest, Reading
request = IngestRequest(
    pipeline="reviews",
    store=settings.store_uri(),
    reading=Reading(source={str(tmp_path / "rows.csv")!r}, text="text", label="label"),
)
made = run_stage(
    "ingest", request, python=settings.training_python(), work=settings.work_directory(), log=lambda line: None
)
print(json.dumps(made))
"""
    made = installed.evaluate(
        code,
        AIRFLOW__RATCHET__TRAINING_PYTHON=training_python(),
        AIRFLOW__RATCHET__STORE=(tmp_path / "store").as_uri(),
        AIRFLOW__RATCHET__WORK=str(tmp_path / "work"),
    )
    assert sum(made["rows"].values()) == 80
    assert made["labels"] == ["neg", "pos"]
    assert (tmp_path / "store" / "snapshots" / made["digest"] / "manifest.json").exists()
