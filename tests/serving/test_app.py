from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from serving.query import MAX_TEXTS
from serving.release import Release
from tests.serving.conftest import running
from tests.serving.releases import LABELS, TEXTS

TEXT = "a very good film"


def ask(url: str, inputs: Any, path: str = "/invocations", **parameters: Any) -> Any:
    body: dict[str, Any] = {"inputs": inputs}
    if parameters:
        body["parameters"] = parameters
    answer = requests.post(url + path, json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def pipeline(releases: list[Release]) -> Any:
    from transformers import pipeline

    return pipeline("text-classification", model=str(releases[0].model_directory), device="cpu")


@pytest.mark.parametrize("inputs", [TEXT, [TEXT], TEXTS[:3]], ids=["one", "list of one", "many"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": None},
        {"top_k": 1},
        {"top_k": 2},
        {"top_k": 99},
        {"function_to_apply": "sigmoid"},
        {"function_to_apply": "none", "top_k": 2},
    ],
    ids=str,
)
def test_invocations_answers_as_the_pipeline_in_sagemakers_container(
    url: str, pipeline: Any, inputs: Any, parameters: dict[str, Any]
) -> None:
    _same(ask(url, inputs, **parameters), pipeline(inputs, **parameters))


def _same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            _same(a, b)
    else:
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=0.02)


def test_the_root_answers_a_list_of_lists_even_for_one_text(url: str) -> None:
    (answer,) = ask(url, TEXT, "/")
    assert {entry["label"] for entry in answer} == set(LABELS)
    assert sum(entry["score"] for entry in answer) == pytest.approx(1)
    assert answer == sorted(answer, key=lambda entry: -entry["score"])
    assert ask(url, TEXT, "/", top_k=1) == [answer[:1]]
    assert ask(url, [TEXT, TEXT], "/", top_k=2) == [answer[:2]] * 2


def test_metadata_names_the_release(url: str, releases: list[Release]) -> None:
    assert requests.get(f"{url}/metadata", timeout=5).json() == {
        "release": releases[0].digest,
        "model_digest": releases[0].model_digest,
        "labels": LABELS,
        "max_length": 32,
        "runtime": "openvino",
    }


def test_a_long_text_is_cut_unless_that_is_forbidden(url: str) -> None:
    long = TEXT + " film" * 200
    assert ask(url, long) == ask(url, TEXT + " film" * 40, truncation=True)
    body = {"inputs": [TEXT, long], "parameters": {"truncation": False}}
    answer = requests.post(f"{url}/invocations", json=body, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("inputs[1] has 206 tokens, the model takes 32")
    assert len(ask(url, [TEXT, "a film"], truncation=False)) == 2


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body", "status", "error"),
    [
        ("POST", "/invocations", "application/json", b"not json", 400, "not JSON"),
        ("POST", "/", "application/json", b'{"inputs": ["a", null]}', 400, "inputs[1] is null"),
        ("POST", "/", "text/csv", b"a,b", 415, "Content-Type is 'text/csv'; send application/json"),
        ("POST", "/", "application/json", b'{"inputs": "%s"}' % (b"x" * 30_000), 413, "over 20,000 bytes"),
        ("GET", "/invocations", None, None, 405, "GET /invocations is not served here; routes: GET /ping"),
        ("POST", "/predict", "application/json", b"{}", 404, "POST /predict is not served here"),
        ("POST", "/ping", "application/json", b"{}", 405, "POST /ping is not served here"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_each_kind_of_bad_request_gets_its_status_and_says_why(
    url: str,
    releases: list[Release],
    method: str,
    path: str,
    content_type: str | None,
    body: bytes | None,
    status: int,
    error: str,
    chunked: bool,
) -> None:
    data: Any = iter([body[:5], body[5:]]) if chunked and body else body
    headers = {"Content-Type": content_type} if content_type else {}
    answer = requests.request(method, url + path, data=data, headers=headers, timeout=10)
    assert answer.status_code == status
    assert error in answer.json()["error"]
    assert answer.headers["X-Release-Digest"] == releases[0].digest
    assert answer.headers["X-Model-Digest"] == releases[0].model_digest
    if status == 405:
        assert answer.headers["Allow"]


def test_an_answer_repeats_no_more_than_the_beginning_of_what_was_wrong(url: str) -> None:
    path = requests.post(f"{url}/{'x' * 50_000}", json={}, timeout=5)
    kind = requests.post(url, data=b"{}", headers={"Content-Type": "x" * 50_000}, timeout=5)
    assert (path.status_code, kind.status_code) == (404, 415)
    assert max(len(path.content), len(kind.content)) < 500


def test_a_charset_in_the_content_type_is_fine(url: str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert requests.post(url, data='{"inputs": "ein schöner Film"}'.encode(), headers=headers, timeout=5).ok


def test_a_body_over_the_limit_is_refused_before_it_is_sent(url: str) -> None:
    """curl and others announce a large body and wait for 100 Continue."""
    with connect(url) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 900000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_health_answers_to_head_and_get(url: str) -> None:
    for path in ("/ping", "/health"):
        assert requests.get(url + path, timeout=5).status_code == 200
        assert requests.head(url + path, timeout=5).status_code == 200


def test_many_texts_are_answered_in_order(url: str) -> None:
    alone = [ask(url, text)[0]["label"] for text in TEXTS]
    assert [answer["label"] for answer in ask(url, TEXTS * 16)] == alone * 16


def test_concurrent_clients_each_get_their_own_answer(url: str) -> None:
    expected = {text: ask(url, text)[0]["label"] for text in TEXTS}
    with ThreadPoolExecutor(16) as clients:
        answers = clients.map(lambda text: (text, ask(url, text)[0]["label"]), TEXTS * 8)
        assert all(expected[text] == label for text, label in answers)


def test_texts_are_never_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "card4111111111111111"
    ask(url, f"my {secret} is lost")
    for body in (f'{{"inputs": "{secret}"', f'{{"inputs": ["{secret}", 3]}}', f'{{"inputs": "{secret}\\ud800"}}'):
        answer = requests.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=5)
        assert answer.status_code == 400
        assert secret not in answer.text
    ours = [record for record in caplog.records if not record.name.startswith("urllib3")]
    assert not [record for record in ours if secret in record.getMessage()]


class SlowScorer:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def tokenize(self, texts: Sequence[str], *, truncation: bool = True) -> list[dict[str, list[int]]]:
        return [{"input_ids": [1]} for _ in texts]

    def logits(self, encodings: Sequence[Any]) -> np.ndarray:
        time.sleep(self.seconds)
        return np.zeros((len(encodings), len(LABELS)), dtype=np.float32)


class BrokenScorer(SlowScorer):
    def logits(self, encodings: Sequence[Any]) -> np.ndarray:
        raise RuntimeError("out of memory")


def test_a_request_past_its_deadline_gets_503_and_is_told_when_to_retry(releases: list[Release]) -> None:
    with running(releases[0], SlowScorer(0.5), deadline_seconds=0.1) as (url, _):
        answer = requests.post(url, json={"inputs": TEXT}, timeout=5)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert "No answer within 0.1 s" in answer.json()["error"]


def test_an_overloaded_server_refuses_with_503_and_answers_the_rest(releases: list[Release]) -> None:
    body = {"inputs": [TEXT] * MAX_TEXTS, "parameters": {"top_k": 1}}
    with running(releases[0], SlowScorer(0.01)) as (url, _), ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: requests.post(url, json=body, timeout=30), range(8)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    assert refused[0].headers["Retry-After"] == "1"
    assert "Too many texts are waiting" in refused[0].json()["error"]
    assert {answer.status_code for answer in answers} == {200, 503}


def connect(url: str) -> socket.socket:
    return socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0), timeout=5)


def test_a_body_that_does_not_arrive_is_given_up(releases: list[Release]) -> None:
    options = {"deadline_seconds": 0.2}
    with running(releases[0], SlowScorer(0), **options) as (url, _), connect(url) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_failing_model_is_500_and_the_server_lives_on(releases: list[Release]) -> None:
    with running(releases[0], BrokenScorer(0)) as (url, _):
        answer = requests.post(url, json={"inputs": TEXT}, timeout=5)
        assert answer.status_code == 500
        assert "its log says why" in answer.json()["error"]
        assert answer.headers["X-Release-Digest"] == releases[0].digest
        assert requests.get(f"{url}/ping", timeout=5).ok


def test_health_is_503_when_nothing_can_be_answered_any_more(releases: list[Release]) -> None:
    with running(releases[0], SlowScorer(0)) as (url, server):
        server.app.batcher.stop()
        answer = requests.get(f"{url}/ping", timeout=5)
        assert answer.status_code == 503
        assert "thread that runs the model has ended" in answer.json()["error"]


class CountingScorer(SlowScorer):
    texts = 0

    def logits(self, encodings: Sequence[Any]) -> np.ndarray:
        self.texts += len(encodings)
        return super().logits(encodings)


def test_texts_of_a_client_that_has_gone_are_not_run(releases: list[Release]) -> None:
    scorer = CountingScorer(0.02)
    with running(releases[0], scorer) as (url, _):
        with pytest.raises(requests.ReadTimeout):
            requests.post(url, json={"inputs": [TEXT] * MAX_TEXTS}, timeout=0.2)
        assert requests.post(url, json={"inputs": TEXT}, timeout=5).ok
        time.sleep(1)  # all of them take 0.64 s
        assert scorer.texts < MAX_TEXTS


def test_with_a_token_only_health_is_open(releases: list[Release]) -> None:
    with running(releases[0], SlowScorer(0), token="s3cret") as (url, _):
        assert requests.get(f"{url}/ping", timeout=5).ok
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer"},
        ):
            refused = requests.post(url, json={"inputs": TEXT}, headers=headers, timeout=5)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert requests.get(f"{url}/metadata", timeout=5).status_code == 401
        for right in ("Bearer s3cret", "bearer s3cret", "BEARER  s3cret"):
            headers = {"Authorization": right}
            assert requests.post(url, json={"inputs": TEXT}, headers=headers, timeout=5).ok


def test_a_draining_server_answers_open_connections_and_asks_them_to_leave(releases: list[Release]) -> None:
    with running(releases[0], SlowScorer(0.3)) as (url, server), ThreadPoolExecutor(1) as client:
        where = urlsplit(url)
        idle = http.client.HTTPConnection(where.hostname or "", where.port, timeout=5)
        idle.request("GET", "/ping")
        assert idle.getresponse().read()
        in_flight = client.submit(requests.post, url, json={"inputs": TEXT}, timeout=5)
        time.sleep(0.1)
        server.should_exit = True
        time.sleep(0.25)
        idle.request("GET", "/ping")
        answer = idle.getresponse()
        assert answer.read()  # which closes it
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert in_flight.result().status_code == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/ping", timeout=5)
