from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.release import Release, read_release
from serving.smoke import SmokeTestFailed, smoke_test
from tests.serving.releases import seal


def changed(directory: Path, change: Callable[[dict[str, Any]], None]) -> Release:
    """:return: the release with other golden examples, under the digest that the server reports."""
    before = read_release(directory)
    golden = json.loads((directory / "golden.json").read_text())
    change(golden)
    (directory / "golden.json").write_text(json.dumps(golden))
    seal(directory)
    return dataclasses.replace(read_release(directory), digest=before.digest)


def test_the_release_that_runs_passes(url: str, releases: list[Release]) -> None:
    smoke_test(url, releases[0])


def test_another_release_is_told_by_its_digest(url: str, releases: list[Release]) -> None:
    with pytest.raises(SmokeTestFailed, match=r"reports .*expected"):
        smoke_test(url, releases[1])


def test_another_label_fails(url: str, copy_of_release: Path) -> None:
    def flip(golden: dict[str, Any]) -> None:
        golden["scores"][3] = [0.01, 0.01, 0.98]
        golden["labels"][3] = "good"
        if sum(label == "good" for label in golden["labels"]) == len(golden["labels"]):
            golden["scores"][3], golden["labels"][3] = [0.98, 0.01, 0.01], "bad"

    with pytest.raises(SmokeTestFailed, match="Golden text 3: "):
        smoke_test(url, changed(copy_of_release, flip))


def test_a_score_off_by_more_than_the_tolerance_fails(url: str, copy_of_release: Path) -> None:
    def shift(golden: dict[str, Any]) -> None:
        golden["scores"][5][0] += 0.1

    with pytest.raises(SmokeTestFailed, match=r"Golden text 5: .*recorded"):
        smoke_test(url, changed(copy_of_release, shift))


def test_another_label_is_forgiven_where_the_best_two_were_as_good_as_equal(url: str, copy_of_release: Path) -> None:
    def tie(golden: dict[str, Any]) -> None:
        for i, (label, scores) in enumerate(zip(golden["labels"], golden["scores"], strict=True)):
            second, best = sorted(range(3), key=lambda n: scores[n])[1:]
            if scores[best] - scores[second] < 0.03:
                golden["labels"][i] = {"bad": "fine", "fine": "good", "good": "bad"}[label]
                return
        pytest.skip("no golden text of this model is close")

    smoke_test(url, changed(copy_of_release, tie))


def test_golden_texts_may_exceed_together_what_a_request_may_hold(url: str, copy_of_release: Path) -> None:
    def lengthen(golden: dict[str, Any]) -> None:  # blanks, which change no answer; the server takes 20,000 bytes
        golden["texts"] = [text + " " * 2_000 for text in golden["texts"]]
        golden["texts"][0] += "\u3000" * 4_000  # 12,000 bytes, or 24,000 as escapes

    smoke_test(url, changed(copy_of_release, lengthen))


def test_no_server_is_a_failure_with_its_reason() -> None:
    release = Release(Path(), "a" * 64, "b" * 64, ["x"], 8, "openvino")
    with pytest.raises(SmokeTestFailed, match="/metadata did not answer"):
        smoke_test("http://127.0.0.1:1", release)
