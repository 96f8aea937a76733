from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.release import BadRelease, digest_of_files, digest_of_golden, hash_files, read_release
from tests.serving.releases import LABELS, TEXTS, seal


def test_a_whole_release_is_read(release_directories: list[Path]) -> None:
    release = read_release(release_directories[0])
    assert release.labels == LABELS
    assert release.max_length == 32
    assert release.golden().texts == TEXTS


def test_a_changed_file_is_refused_by_name(copy_of_release: Path) -> None:
    path = copy_of_release / "openvino" / "model.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadRelease, match=r"openvino/model\.bin has changed"):
        read_release(copy_of_release)


def test_a_missing_and_an_extra_file_are_both_named(copy_of_release: Path) -> None:
    (copy_of_release / "model" / "config.json").unlink()
    (copy_of_release / "extra.py").write_text("")
    with pytest.raises(BadRelease, match=r"model/config\.json is missing; extra\.py is not listed"):
        read_release(copy_of_release)


def test_what_a_killed_process_left_unfinished_is_no_part_of_a_release(copy_of_release: Path) -> None:
    (copy_of_release / "openvino" / ".part-1f-model.bin").write_bytes(b"half")
    assert read_release(copy_of_release).labels == LABELS


def test_a_digest_that_is_not_that_of_the_files_is_refused(copy_of_release: Path) -> None:
    manifest = copy_of_release / "release.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "digest": "f" * 64}))
    with pytest.raises(BadRelease, match="says digest ffff"):
        read_release(copy_of_release)


def test_an_unfinished_release_is_refused(copy_of_release: Path) -> None:
    (copy_of_release / "release.json").unlink()
    with pytest.raises(BadRelease, match="no complete release"):
        read_release(copy_of_release)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runtime": "tensorrt"}, "runtime 'tensorrt'"),
        ({"labels": "bad,good"}, "'labels' is str; expected list"),
        ({"labels": []}, "0 labels"),
        ({"max_length": None}, "'max_length' is NoneType; expected int"),
    ],
)
def test_a_manifest_that_cannot_be_served_is_refused(
    copy_of_release: Path, values: dict[str, object], message: str
) -> None:
    seal(copy_of_release, **values)
    with pytest.raises(BadRelease, match=message):
        read_release(copy_of_release)


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        ({"texts": ["a"], "labels": ["good"]}, "'scores'"),
        ({"texts": [], "labels": [], "scores": []}, "0 texts"),
        ({"texts": ["a"], "labels": ["good"], "scores": [[0.5, 0.5]]}, "not those of the release's 3 labels"),
        ({"texts": ["a"], "labels": ["great"], "scores": [[0.2, 0.3, 0.5]]}, "not those of the release's 3 labels"),
    ],
)
def test_golden_examples_that_do_not_fit_are_refused(
    copy_of_release: Path, golden: dict[str, object], message: str
) -> None:
    (copy_of_release / "golden.json").write_text(json.dumps(golden))
    seal(copy_of_release)
    with pytest.raises(BadRelease, match=message):
        read_release(copy_of_release).golden()


def test_a_golden_example_can_be_taken_out_and_the_release_keeps_its_digest(copy_of_release: Path) -> None:
    before, path = read_release(copy_of_release), copy_of_release / "golden.json"
    golden = json.loads(path.read_text())
    for kept in (len(TEXTS) - 1, 0):
        fewer = {name: golden[name][:kept] for name in ("texts", "labels", "scores")}
        fewer["forgotten"] = len(TEXTS) - kept
        path.write_text(json.dumps({**fewer, "digest": digest_of_golden(fewer)}))
        release = read_release(copy_of_release)
        assert (release.digest, release.golden().texts) == (before.digest, TEXTS[:kept])


def test_golden_examples_that_were_changed_are_refused(copy_of_release: Path) -> None:
    path = copy_of_release / "golden.json"
    golden = json.loads(path.read_text())
    golden["labels"][0] = next(label for label in LABELS if label != golden["labels"][0])
    path.write_text(json.dumps(golden))
    with pytest.raises(BadRelease, match=r"golden\.json has changed"):
        read_release(copy_of_release)


def test_a_release_from_before_golden_examples_had_a_digest_is_read(copy_of_release: Path) -> None:
    golden, manifest = copy_of_release / "golden.json", copy_of_release / "release.json"
    values = json.loads(golden.read_text())
    del values["digest"]
    golden.write_text(json.dumps(values))
    files = hash_files(copy_of_release)
    told = {**json.loads(manifest.read_text()), "files": files, "digest": digest_of_files(files)}
    manifest.write_text(json.dumps(told))
    assert read_release(copy_of_release).golden().texts == TEXTS
    golden.write_text("{}")
    with pytest.raises(BadRelease, match=r"golden\.json has changed"):
        read_release(copy_of_release)
