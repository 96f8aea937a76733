"""What the page about approval, override and notifications shows is what Ratchet takes."""

from __future__ import annotations

import argparse
import email
import json
import re
import shlex
import socketserver
import threading
from copy import deepcopy
from datetime import timedelta

import pytest

from ratchet.cli.retrain import parameters_from
from ratchet.cli.run import add_parser
from ratchet.factory import build
from ratchet.notify import check, tell
from ratchet.run_params import PARAMS
from ratchet.spec import load_spec
from tests.ratchet.fakes import context
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "approval.md").read_text()
SPECS = dict(re.findall(r"^```yaml\n# dags/([\w-]+)\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def pipeline(tmp_path):
    """:return: what reads a spec of the page."""

    def read(name):
        (tmp_path / f"{name}.yaml").write_text(SPECS[name])
        return load_spec(tmp_path / f"{name}.yaml")

    return read


def test_the_approvers_of_the_page_are_asked_within_its_hours(pipeline):
    approve = build(pipeline("tickets-approved")).get_task("approve")
    assert approve.assigned_users == [{"id": "anna", "name": "anna"}, {"id": "ben", "name": "ben"}]
    assert approve.response_timeout == timedelta(hours=48)


def test_the_override_of_the_page_reaches_the_run_with_its_reason():
    [line] = re.findall(r"^\.venv/bin/ratchet (run .*--override .*)$", PAGE, re.MULTILINE)
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parameters = parameters_from(parser.parse_args(shlex.split(line)))
    assert (
        deepcopy(PARAMS["override"]).resolve(parameters["override"])
        == "the customer waits, the labels are being mended"
    )


class Mailbox(socketserver.StreamRequestHandler):
    """Takes one mail, as an SMTP server that asks for nothing does."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                content = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(email.message_from_bytes(content))
            self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


@pytest.fixture
def mails(monkeypatch):
    """The mails that came in, through the connection of the page."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.mails = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1]}
        connection["extra"] = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1}
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(connection))
        yield server.mails
        server.shutdown()
        thread.join()


def test_the_team_of_the_page_gets_a_mail_of_what_it_wants_to_know(pipeline, mails):
    spec = pipeline("tickets-told")
    [notification] = spec.notifications()
    check(notification)
    for event in ("promote", "stale"):
        tell([notification], context(), event, spec.name, "nothing new is shipped", reasons=["label '<b>' fell"])
    [mail] = mails
    assert (mail["subject"], mail["to"]) == ("tickets-told: nothing new is shipped", "team@acme.example")
    [part] = mail.get_payload()
    assert "- label &#39;&lt;b&gt;&#39; fell" in part.get_payload(decode=True).decode()
    assert build(spec).get_task("gate").stale_after_days == 90
