from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.servers import free_port, running, training_python
from tests.tiny import tiny_checkpoint
from training.baseline import TOKEN_VARIABLE, ask_baseline, digest_of_answers, require_baseline
from training.classifier import load_classifier
from training.contract import BadInput, PackageRequest, Unreachable
from training.package import package
from training.store import local_path
from training.testset import TestSet

LABELS = ["neg", "neu", "pos"]
TEXTS = [f"the {noun} was {word}" for noun in ("film", "book", "card") for word in ("good", "bad", "great", "awful")]
TEST_SET = TestSet("", "", TEXTS, ["pos", "neg", "pos", "neg"] * 3)


@contextmanager
def endpoint(answer, status=200) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """:param answer: from the text to what is sent as JSON. :return: URL, and the headers of what was asked."""
    asked = []

    class Endpoint(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            asked.append({name.lower(): value for name, value in self.headers.items()})
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
            body = json.dumps(answer(text)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def both(text):
    return [[{"label": "pos", "score": 0.75}, {"label": "neg", "score": 0.25}]]


def test_the_majority_is_the_commonest_label_with_the_labels_shares():
    answers = ask_baseline("majority", TestSet("", "", ["a", "b", "c", "d"], ["x", "y", "y", "z"]))
    assert answers.predictions == ["y"] * 4
    assert dict(zip(answers.labels, answers.scores[0], strict=True)) == {"x": 0.25, "y": 0.5, "z": 0.25}


def test_of_labels_that_are_equally_common_the_first_one_is_taken():
    assert ask_baseline("majority", TestSet("", "", ["a", "b"], ["y", "x"])).predictions == ["x", "x"]


@pytest.mark.parametrize("baseline", ["Majority", "acme/model", "ftp://example.com", "http://", "http://[", ""])
def test_a_baseline_that_nobody_can_ask_is_refused(baseline):
    with pytest.raises(BadInput, match="neither 'majority' nor the http"):
        require_baseline(baseline)


@pytest.mark.parametrize("url", ["https://me:hunter22@example.com", "https://example.com/?token=hunter22"])
def test_an_url_with_credentials_is_refused_without_showing_them(url):
    with pytest.raises(BadInput, match=TOKEN_VARIABLE) as raised:
        require_baseline(url)
    assert "hunter22" not in str(raised.value)


def test_our_own_server_is_a_baseline(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path / "model", LABELS, seed=1)
    places = {"store": str(tmp_path / "store"), "work": str(tmp_path / "work")}
    release = package(PackageRequest(pipeline="films", model=str(checkpoint), **places)).release
    port = free_port()
    command = [training_python(), "-m", "serving", "--release", str(local_path(release)), "--port", str(port)]
    with running(command, f"http://127.0.0.1:{port}/ping", tmp_path / "server.log"):
        answers = ask_baseline(f"http://127.0.0.1:{port}", TEST_SET)
    assert answers.labels == ("neg", "neu", "pos")
    assert np.abs(answers.scores - load_classifier(checkpoint, "model").score(TEXTS, 8)).max() < 0.02
    assert digest_of_answers(answers) == digest_of_answers(answers)


def test_the_endpoint_sees_the_token_that_is_its_own_and_never_the_hubs(monkeypatch):
    monkeypatch.setattr("huggingface_hub.inference._providers.hf_inference.get_token", lambda: "hf_of_the_hub")
    with endpoint(both) as (url, asked):
        monkeypatch.setenv(TOKEN_VARIABLE, "of-the-baseline")
        ask_baseline(url, TEST_SET)
        assert {one["authorization"] for one in asked} == {"Bearer of-the-baseline"}
        asked.clear()
        monkeypatch.delenv(TOKEN_VARIABLE)
        ask_baseline(url, TEST_SET)
        assert not any("authorization" in one for one in asked)


@pytest.mark.parametrize("answer", [both, lambda text: both(text)[0][:1]])
def test_labels_are_matched_by_name_also_of_a_server_that_says_the_best_one_alone(answer):
    with endpoint(answer) as (url, _):
        answers = ask_baseline(url, TEST_SET)
    assert answers.predictions == ["pos"] * len(TEXTS)
    assert answers.scores[:, answers.labels.index("pos")].tolist() == [0.75] * len(TEXTS)


def test_answers_are_in_the_order_of_the_texts():
    def by_length(text):
        return [[{"label": "pos" if "good" in text or "great" in text else "neg", "score": len(text) / 100}]]

    with endpoint(by_length) as (url, _):
        answers = ask_baseline(url, TEST_SET)
    assert answers.predictions == TEST_SET.labels
    assert answers.scores.max(axis=1).tolist() == [len(text) / 100 for text in TEXTS]


def test_labels_of_which_the_test_set_has_none_are_refused():
    with (
        endpoint(lambda _text: [[{"label": "LABEL_0", "score": 1.0}]]) as (url, _),
        pytest.raises(BadInput, match=r"answers with the labels \['LABEL_0'\]"),
    ):
        ask_baseline(url, TEST_SET)


@pytest.mark.parametrize("answer", [{"generated_text": "pos"}, [], [["pos"]], "pos", [[{"label": "pos"}]], 3])
def test_what_is_no_classifier_is_refused(answer):
    with (
        endpoint(lambda _text: answer) as (url, _),
        pytest.raises(BadInput, match="does not answer as a text classifier does"),
    ):
        ask_baseline(url, TEST_SET)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [(401, BadInput, TOKEN_VARIABLE), (404, BadInput, "Check the URL"), (503, Unreachable, "answered 503")],
)
def test_an_endpoint_that_refuses_is_told_from_one_that_is_busy(status, kind, message, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-baseline")
    with endpoint(lambda _text: {"error": "not now"}, status) as (url, _), pytest.raises(kind, match=message) as raised:
        ask_baseline(url, TEST_SET)
    assert "of-the-baseline" not in str(raised.value)


def test_an_endpoint_that_does_not_answer_may_do_so_later():
    with pytest.raises(Unreachable, match="does not answer"):
        ask_baseline("http://127.0.0.1:9", TEST_SET)  # the port where nobody answers


def test_an_endpoint_that_takes_too_long_ends_the_step(monkeypatch):
    monkeypatch.setattr("training.baseline.DEADLINE_SECONDS", -1.0)
    with endpoint(both) as (url, asked):
        with pytest.raises(Unreachable, match=f"answered 0 of {len(TEXTS)} texts"):
            ask_baseline(url, TEST_SET)
        assert not asked
