"""The plugin loads, and its files hide nobody else's modules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOAD_PLUGINS = """
import json, sys
from airflow import plugins_manager
names = [plugin["name"] for plugin in plugins_manager.get_plugin_info()]
plugins = sys.argv[1]
stray = [
    name
    for name, module in sys.modules.items()
    if (getattr(module, "__file__", None) or "").startswith(plugins + "/ratchet/")
    and not name.startswith("ratchet")
]
import mlflow
print(json.dumps([names, plugins_manager.get_import_errors(), stray, mlflow.__file__]))
"""


def test_the_plugin_loads_and_replaces_no_module(tmp_path):
    """Airflow imports plugins/**.py by bare name unless .airflowignore stops it (apache/airflow#63548)."""
    plugins = ROOT / "plugins"
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_PLUGINS, str(plugins)],
        check=True,
        capture_output=True,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            "PYTHONPATH": f"{plugins}:{ROOT}",
        },
    ).stdout
    names, errors, stray, mlflow = json.loads(answer.splitlines()[-1])
    assert "ratchet" in names
    assert errors == {}
    assert stray == []
    assert "site-packages" in mlflow
