"""Real clients of both kinds of endpoint work against ours, unchanged."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import requests

from serving.release import Release
from tests.serving.conftest import running
from tests.serving.releases import LABELS
from tests.serving.test_app import SlowScorer

TEXT = "a very good film"
JS_CLIENT = "@huggingface/inference@4.13.30"


@pytest.fixture(scope="module")
def slow_url(releases: list[Release]) -> Iterator[str]:
    with running(releases[0], SlowScorer(1.0)) as (url, _):
        yield url


def expected(url: str) -> list[str]:
    """:return: labels of the text, best first."""
    answer: list[list[dict[str, Any]]] = requests.post(url, json={"inputs": TEXT}, timeout=10).json()
    return [entry["label"] for entry in answer[0]]


def test_the_hubs_client(url: str) -> None:
    client = huggingface_hub.InferenceClient(model=url, timeout=10)
    answer = client.text_classification(TEXT)
    assert [entry.label for entry in answer] == expected(url)
    assert sum(entry.score for entry in answer) == pytest.approx(1)
    best = client.text_classification(TEXT, top_k=1, function_to_apply="sigmoid")
    assert [entry.label for entry in best] == expected(url)[:1]


def test_the_hubs_asynchronous_client(url: str) -> None:
    async def ask() -> list[list[str]]:
        async with huggingface_hub.AsyncInferenceClient(model=url, timeout=10) as client:
            answers = await asyncio.gather(*(client.text_classification(TEXT) for _ in range(8)))
        return [[entry.label for entry in answer] for answer in answers]

    assert asyncio.run(ask()) == [expected(url)] * 8


def test_the_hubs_clients_time_out_as_asked(slow_url: str) -> None:
    async def ask() -> None:
        async with huggingface_hub.AsyncInferenceClient(model=slow_url, timeout=0.2) as client:
            await client.text_classification(TEXT)

    for attempt in (
        lambda: huggingface_hub.InferenceClient(model=slow_url, timeout=0.2).text_classification(TEXT),
        lambda: asyncio.run(ask()),
    ):
        start = time.monotonic()
        with pytest.raises(huggingface_hub.errors.InferenceTimeoutError):
            attempt()
        assert time.monotonic() - start < 0.9


def test_curl(url: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"inputs": [TEXT, TEXT]})
    command = [curl, "--silent", "--fail", url, "-H", "Content-Type: application/json", "-d", body]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)
    assert [[entry["label"] for entry in row] for row in answer] == [expected(url)] * 2
    forgotten = [curl, "--silent", url, "-d", body]
    refused = json.loads(subprocess.run(forgotten, capture_output=True, check=True, timeout=20).stdout)
    assert "send application/json" in refused["error"]


@pytest.fixture(scope="module")
def node_modules(pytestconfig: pytest.Config) -> Path:
    """The JavaScript client, installed once and kept in pytest's cache."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    assert pytestconfig.cache is not None
    directory = pytestconfig.cache.mkdir("npm-huggingface-inference")
    if not (directory / "node_modules" / "@huggingface" / "inference" / "package.json").exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory), JS_CLIENT]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip(f"npm could not install {JS_CLIENT}; is the registry reachable?")
    return directory


def run_js(directory: Path, script: str) -> Any:
    path = directory / "ask.mjs"
    path.write_text('import { InferenceClient } from "@huggingface/inference";\n' + script)
    node = shutil.which("node") or "node"
    done = subprocess.run([node, path.name], cwd=directory, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_javascript_client(url: str, node_modules: Path) -> None:
    answer = run_js(
        node_modules,
        f"""
        const endpoint = new InferenceClient().endpoint({json.dumps(url)});
        const all = await endpoint.textClassification({{inputs: {json.dumps(TEXT)}}});
        const best = await endpoint.textClassification({{inputs: {json.dumps(TEXT)}, parameters: {{top_k: 1}}}});
        console.log(JSON.stringify([all, best].map((answer) => answer.map((entry) => entry.label))));
        """,
    )
    assert answer == [expected(url), expected(url)[:1]]


def test_the_javascript_client_gives_up_when_told(slow_url: str, node_modules: Path) -> None:
    answer = run_js(
        node_modules,
        f"""
        const endpoint = new InferenceClient().endpoint({json.dumps(slow_url)});
        try {{
          await endpoint.textClassification({{inputs: "a"}}, {{signal: AbortSignal.timeout(200)}});
          console.log('"answered"');
        }} catch (error) {{
          console.log(JSON.stringify(error.name));
        }}
        """,
    )
    assert answer in ("TimeoutError", "AbortError")


def test_an_error_reaches_the_hubs_client_with_its_reason(url: str) -> None:
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="inputs is blank"):
        huggingface_hub.InferenceClient(model=url, timeout=10).text_classification(" ")
    assert set(expected(url)) == set(LABELS)
