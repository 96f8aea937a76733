"""An Airflow connection becomes the few variables that one stage needs, and shows nothing of itself."""

from __future__ import annotations

import json

import pytest

from ratchet.hooks.source_connection import SourceConnectionHook, access_to_source
from training.contract import BadInput, Reading

BUCKET = Reading(source="s3://films/*.csv", text="t", label="l")
QUERY = Reading(source="sql://place", query="select 1", text="t", label="l")


@pytest.fixture
def access(monkeypatch):
    def to(reading, **connection):
        monkeypatch.setenv("AIRFLOW_CONN_PLACE", json.dumps(connection))
        return SourceConnectionHook("place").access_to(reading)

    return to


def test_without_a_connection_the_stage_has_what_its_environment_has():
    assert access_to_source(None, BUCKET).environment == {}


def test_the_keys_are_the_sources_alone_and_leave_those_of_the_store_as_they_are(access):
    keys = {"login": "AKIDEXAMPLE", "password": "secret"}
    assert access(BUCKET, conn_type="aws", **keys, extra={"session_token": "t0ken"}).environment == {
        "RATCHET_SOURCE_AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "RATCHET_SOURCE_AWS_SECRET_ACCESS_KEY": "secret",
        "RATCHET_SOURCE_AWS_SESSION_TOKEN": "t0ken",
    }


def test_a_connection_without_keys_leaves_them_to_the_machine(access):
    extra = {"region_name": "eu-north-1", "service_config": {"s3": {"endpoint_url": "http://s3.example"}}}
    assert access(BUCKET, conn_type="aws", extra=extra).environment == {
        "RATCHET_SOURCE_AWS_DEFAULT_REGION": "eu-north-1",
        "RATCHET_SOURCE_AWS_ENDPOINT_URL_S3": "http://s3.example",
    }


@pytest.mark.parametrize(
    ("kind", "scheme"), [("postgres", "postgresql"), ("postgresql", "postgresql"), ("mysql", "mysql")]
)
def test_a_database_is_called_as_sqlalchemy_calls_it(access, kind, scheme):
    found = access(QUERY, conn_type=kind, host="db", login="me", password="a b/c", schema="mail")
    assert found.environment == {"RATCHET_SQL_URI": f"{scheme}://me:a%20b%2Fc@db/mail"}


def test_the_drivers_options_are_kept_also_beside_those_that_only_airflow_knows(access):
    extra = {"sslmode": "require", "nested": {"iam": True}}  # which no query string can hold as it is
    uri = access(QUERY, conn_type="postgres", host="db", schema="mail", extra=extra).environment["RATCHET_SQL_URI"]
    assert uri == "postgresql://db/mail?sslmode=require"


def test_nothing_of_it_is_shown(access):
    found = access(QUERY, conn_type="postgres", host="db", login="me", password="pl4nted")
    assert "pl4nted" not in repr(found)


def test_a_connection_that_is_missing_is_named_with_what_to_do():
    with pytest.raises(BadInput, match=r"'nowhere' of s3://films/\*\.csv does not exist.*AIRFLOW_CONN_NOWHERE"):
        SourceConnectionHook("nowhere").access_to(BUCKET)
