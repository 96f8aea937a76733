"""Where endpoints are and what they serve, as ``make status`` says it, of a real MLflow and a fake endpoint host."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from ratchet.cli.stack import commands, lifecycle
from ratchet.cli.stack.endpoints import difference, endpoints
from ratchet.cli.stack.settings import Settings, write_private
from tests.servers import free_port, mlflow_server

HOST_ANSWER = [
    {"name": "films", "url": "http://127.0.0.1:1", "status": "serving", "digest": "a" * 64, "model_digest": "1" * 64},
    {"name": "judged", "url": "http://127.0.0.1:2", "status": "down", "digest": "b" * 64, "model_digest": "2" * 64},
    {"name": "mine", "url": "http://127.0.0.1:3", "status": "serving", "digest": "c" * 64, "model_digest": "3" * 64},
    {"name": "new", "url": "http://127.0.0.1:4", "status": "down", "digest": None, "model_digest": None},
]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """
    Three versions of ``films``: two with the same weights, of which the first was promoted, and another. ``imported``
    promoted the same release later. The champion of ``judged`` has weights that no endpoint serves.
    """
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:

        def post(path, **body):
            answer = httpx.post(f"{url}/api/2.0/mlflow/{path}", json=body, trust_env=False)
            return answer.raise_for_status().json()

        run = post("runs/create", experiment_id="0")["run"]["info"]
        where = {"run_id": run["run_id"], "source": f"{run['artifact_uri']}/model"}
        post("registered-models/create", name="films")
        for tags in (
            {"ratchet.model_digest": "1" * 64, "ratchet.release": "a" * 64, "ratchet.endpoint": "films"},
            {"ratchet.model_digest": "1" * 64},
            {"ratchet.model_digest": "2" * 64},
        ):
            every = [{"key": key, "value": value} for key, value in tags.items()]
            post("model-versions/create", name="films", tags=every, **where)
        post("registered-models/create", name="judged")
        other = [{"key": "ratchet.model_digest", "value": "9" * 64}]
        post("model-versions/create", name="judged", tags=other, **where)
        post("registered-models/create", name="imported")
        tags = {"ratchet.model_digest": "1" * 64, "ratchet.release": "a" * 64, "ratchet.endpoint": "imported"}
        every = [{"key": key, "value": value} for key, value in tags.items()]
        post("model-versions/create", name="imported", tags=every, **where)
        for name in ("films", "judged"):
            post("registered-models/alias", name=name, alias="champion", version="1")
        yield int(url.rpartition(":")[2])


@pytest.fixture
def settings(tmp_path, mlflow):
    made = Settings(home=tmp_path / "home", checkout=tmp_path, dags=tmp_path)
    made.make_directories()
    write_private(made.home / "ports.json", {"mlflow": mlflow, "endpoints": free_port()})
    return made


@pytest.fixture
def host(settings):
    """An endpoint host that answers nobody without the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers.get("Authorization") == f"Bearer {settings.secrets['endpoint_token']}"
            self.send_response(200 if allowed and self.path == "/endpoints" else 401)
            self.end_headers()
            self.wfile.write(json.dumps(HOST_ANSWER).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", settings.ports["endpoints"]), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_endpoint_has_its_address_and_the_version_it_serves_if_that_is_known(settings, host):
    assert endpoints(settings) == [
        ("films", "serving", "http://127.0.0.1:1", "films version 1, release aaaaaaaaaaaa"),
        ("judged", "down", "http://127.0.0.1:2", "films version 3, release bbbbbbbbbbbb"),
        ("mine", "serving", "http://127.0.0.1:3", "release cccccccccccc"),
        ("new", "down", "http://127.0.0.1:4", "nothing"),
    ]


def test_without_mlflow_an_endpoint_still_has_its_address(settings, host):
    write_private(settings.home / "ports.json", {**settings.ports, "mlflow": free_port()})
    assert endpoints(settings)[0] == ("films", "serving", "http://127.0.0.1:1", "release aaaaaaaaaaaa")


def test_what_an_endpoint_serves_instead_of_the_champion_is_said(settings, host):
    assert difference(settings, "films", "films") is None
    told = difference(settings, "judged", "judged")
    assert told.startswith(
        "Endpoint 'judged' serves films version 3, release bbbbbbbbbbbb, but champion is version 1: "
    )
    told = difference(settings, "films", "gone")
    assert told.startswith("Endpoint 'gone' serves nothing, but champion is version 1: ")


def test_where_nobody_can_tell_no_difference_is_claimed(settings):
    assert difference(settings, "films", "films") is None  # the endpoint host is away
    assert difference(settings, "never-promoted", "films") is None


def test_an_endpoint_host_that_is_away_is_told_from_one_without_endpoints(settings):
    assert endpoints(settings) is None


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (
            [("films", "serving", "http://127.0.0.1:1", "films version 2, release 1a2b")],
            "films     serving  http://127.0.0.1:1  films version 2, release 1a2b",
        ),
        ([], "No endpoint yet."),
        (None, "Endpoints: their host does not answer."),
    ],
)
def test_status_shows_endpoints_and_where_the_passwords_are(settings, capsys, monkeypatch, found, shown):
    monkeypatch.setattr(lifecycle, "status", lambda settings: [("mlflow", "running", "0:01", "7", "http://")])
    monkeypatch.setattr(commands, "endpoints", lambda settings: found)
    assert commands.show_status(settings) == 0
    told = capsys.readouterr().out.splitlines()
    assert shown in told
    assert told[-1] == f"Users of Airflow and their passwords: {settings.passwords_file}"
