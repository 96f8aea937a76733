"""
Requests per second of an endpoint and of ``mlflow models serve`` on the same model, and agreement with PyTorch.

Both servers run one after the other, in alternating pairs, each in its own process on loopback. The load comes from a
third process: so many keep-alive connections of plain asyncio streams, each of which sends its next single-text request
when it has its answer. The share of one core that the generator needs is part of the result; near 100 % it would
be the generator that is measured.

    .venv-training/bin/python -m benchmarks.serving --base-model DIR --data ../shared/data

trains a classifier for one epoch on banking77 first; ``--model DIR`` takes a finished checkpoint instead.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training.classifier import load_classifier
from training.contract import IngestRequest, PackageRequest, PackageResult, Reading, TrainRequest
from training.ingest import ingest
from training.package import package
from training.stage import log_to_stdout
from training.store import local_path
from training.train import train

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180
AGREEMENT_BATCH = 64


@dataclass(frozen=True)
class Load:
    """What the generator saw."""

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p95_ms: float
    generator_percent: float  # of one core

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default=os.environ.get("RATCHET_SAMPLE_MODEL"), help="all-MiniLM-L6-v2")
    parser.add_argument("--model", help="a fine-tuned checkpoint; nothing is trained")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77")
    parser.add_argument("--work", type=Path, default=Path(".ratchet/benchmarks/serving"))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, after a warm-up")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--generate", nargs=2, metavar=("URL", "BODIES"), help=argparse.SUPPRESS)  # the third process
    options = parser.parse_args()
    if options.generate:
        url, bodies = options.generate
        lines = Path(bodies).read_bytes().splitlines()
        load = asyncio.run(generate(url, lines, options.connections, options.seconds))
        print(json.dumps(asdict(load)))
        return
    if not options.model and not options.base_model:
        sys.exit("Say where all-MiniLM-L6-v2 is: --base-model, or RATCHET_SAMPLE_MODEL.")
    log_to_stdout()
    compare(options)


def compare(options: argparse.Namespace) -> None:
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    with (options.data / "banking77" / "test.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    model = options.model or fine_tuned(options, work)
    release = package(
        PackageRequest(pipeline="benchmark", store=str(work / "store"), work=str(work / "work"), model=model)
    )
    mlflow_model = saved_for_mlflow(local_path(model), work)

    ours_bodies, theirs_bodies = work / "ours.jsonl", work / "mlflow.jsonl"
    ours_bodies.write_text("\n".join(json.dumps({"inputs": text}) for text in texts))
    theirs_bodies.write_text("\n".join(json.dumps({"inputs": [text]}) for text in texts))

    ours: list[Load] = []
    theirs: list[Load] = []
    agreement = float("nan")
    for pair in range(options.pairs):
        with endpoint(release, work) as url:
            if pair == 0:
                agreement = label_agreement(url, local_path(model), texts)
            ours.append(measured(options, url, ours_bodies))
        with mlflow_server(mlflow_model, work) as url:
            theirs.append(measured(options, f"{url}/invocations", theirs_bodies))
        report(f"pair {pair + 1}", ours[-1:], theirs[-1:])
    report("median", ours, theirs)
    print(f"labels equal to eager fp32 PyTorch: {agreement:.2%} of {len(texts)} texts")
    print(f"processor: {processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


def fine_tuned(options: argparse.Namespace, work: Path) -> str:
    """:return: URI of a classifier for banking77, trained for one epoch."""
    source, store = options.data / "banking77", str(work / "store")
    snapshot = ingest(
        IngestRequest(
            pipeline="banking77",
            store=store,
            reading=Reading(
                source=str(source / "train.csv"), test=str(source / "test.csv"), text="text", label="category"
            ),
        )
    )
    result = train(
        TrainRequest(
            pipeline="serving-benchmark",
            store=store,
            work=str(work / "work"),
            snapshot=snapshot.snapshot,
            base_model=options.base_model,
            arguments={"num_train_epochs": 1},
        )
    )
    return result.model


def saved_for_mlflow(checkpoint: Path, work: Path) -> Path:
    """:return: the model as the training stage logs it: a pyfunc around the ordinary checkpoint."""
    import mlflow

    target = work / "mlflow-model"
    if not target.exists():
        mlflow.pyfunc.save_model(
            target,
            python_model=str(ROOT / "training" / "pyfunc_model.py"),
            artifacts={"model": str(checkpoint)},
            pip_requirements=[],
        )
    return target


@contextmanager
def endpoint(release: PackageResult, work: Path) -> Iterator[str]:
    """An endpoint of the local host, as a pipeline deploys it. :return: its URL."""
    token, port = secrets.token_hex(16), free_port()
    state = work / f"host-{port}"
    command = [sys.executable, "-m", "serving.host", "--state", str(state), "--port", str(port)]
    with process(command, work / "host.log", RATCHET_ENDPOINT_TOKEN=token):
        control = f"http://127.0.0.1:{port}/endpoints/benchmark"

        def call(method: str, body: Any = None) -> dict[str, Any]:
            request = urllib.request.Request(control, method=method, headers={"Authorization": f"Bearer {token}"})
            request.data = None if body is None else json.dumps(body).encode()
            answer: dict[str, Any] = json.load(urllib.request.urlopen(request, timeout=30))
            return answer

        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5))
        call("PUT", {"release": release.release, "digest": release.digest})
        wait_for(lambda: call("GET")["status"] == "serving")
        yield call("GET")["url"]


@contextmanager
def mlflow_server(model: Path, work: Path) -> Iterator[str]:
    """``mlflow models serve`` with its defaults. :return: its URL."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with process(command, work / "mlflow.log", PATH=path):
        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    """Run a server in a group of its own and end the whole group afterwards."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def measured(options: argparse.Namespace, url: str, bodies: Path) -> Load:
    """:return: what a generator process of its own saw, after a warm-up of a quarter of the time."""
    command = [sys.executable, "-m", "benchmarks.serving", "--connections", str(options.connections)]
    for seconds in (options.seconds / 4, options.seconds):
        call = [*command, "--seconds", str(seconds), "--generate", url, str(bodies)]
        done = subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Load(**json.loads(done.stdout))


async def generate(url: str, bodies: list[bytes], connections: int, seconds: float) -> Load:
    where = urlsplit(url)
    head = f"POST {where.path or '/'} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    latencies: list[float] = []
    failed = 0
    start = time.perf_counter()
    used = time.process_time()

    async def client(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        position = number * len(requests) // connections
        while time.perf_counter() - start < seconds:
            sent = time.perf_counter()
            writer.write(requests[position % len(requests)])
            header = await reader.readuntil(b"\r\n\r\n")
            length = int(header.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - sent)
            failed += not header.startswith(b"HTTP/1.1 200")
            position += 1
        writer.close()

    await asyncio.gather(*(client(number) for number in range(connections)))
    elapsed = time.perf_counter() - start
    share = 100 * (time.process_time() - used) / elapsed
    cuts = statistics.quantiles(latencies, n=100)
    return Load(len(latencies), failed, elapsed, cuts[49] * 1e3, cuts[94] * 1e3, share)


def label_agreement(url: str, checkpoint: Path, texts: list[str]) -> float:
    """:return: share of texts whose label over HTTP is that of the checkpoint in eager fp32 PyTorch."""
    classifier = load_classifier(checkpoint, str(checkpoint))
    best = classifier.score(texts, AGREEMENT_BATCH).argmax(axis=1)
    served: list[str] = []
    for start in range(0, len(texts), AGREEMENT_BATCH):
        body = json.dumps({"inputs": texts[start : start + AGREEMENT_BATCH]}).encode()
        request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
        served += [entry["label"] for entry in json.load(urllib.request.urlopen(request, timeout=60))]
    return sum(classifier.labels[i] == label for i, label in zip(best, served, strict=True)) / len(texts)


def report(name: str, ours: list[Load], theirs: list[Load]) -> None:
    for server, loads in (("endpoint", ours), ("mlflow", theirs)):
        print(
            f"{name:<8} {server:<9} {middle(loads, lambda load: load.per_second):8.1f} requests/s"
            f"  p50 {middle(loads, lambda load: load.p50_ms):7.1f} ms"
            f"  p95 {middle(loads, lambda load: load.p95_ms):7.1f} ms"
            f"  failed {sum(load.failed for load in loads)}"
            f"  generator {middle(loads, lambda load: load.generator_percent):.0f} % of a core"
        )
    ratios = [a.per_second / b.per_second for a, b in zip(ours, theirs, strict=True)]
    print(f"{name:<8} ratio     {statistics.median(ratios):8.1f}", flush=True)


def middle(loads: list[Load], of: Callable[[Load], float]) -> float:
    return statistics.median(of(load) for load in loads)


def wait_for(check: Callable[[], Any]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except OSError:  # urllib's errors are among them
            pass
        time.sleep(0.2)
    sys.exit(f"A server was not ready after {START_SECONDS} s; its log is under --work.")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}{' with amx_bf16' if 'amx_bf16' in cpuinfo else ''}"


if __name__ == "__main__":
    main()
