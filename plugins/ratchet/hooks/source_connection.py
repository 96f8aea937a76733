"""Give a stage what it needs to reach a pipeline's source, and nobody else: variables in its environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from training.contract import BadInput

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from training.contract import Reading

SQL_URI = "RATCHET_SQL_URI"
BUCKET = "RATCHET_SOURCE_"  # before AWS's names: those by themselves open the store
# What Airflow calls Postgres has had three names; SQLAlchemy takes one of them.
SQLALCHEMY_NAMES = {"postgres": "postgresql", "pgsql": "postgresql"}


@dataclass(frozen=True)
class Access:
    """What opens a source: variables for the environment of the one stage that reads it."""

    environment: dict[str, str] = field(default_factory=dict, repr=False)


class SourceConnectionHook(BaseHook):
    """
    :param source_conn_id: connection of type ``aws`` (login: access key, password: secret key, extra: ``region_name``,
        ``endpoint_url``, ``session_token``), or of a database.
    """

    conn_name_attr = "source_conn_id"
    hook_name = "Source of labelled data"

    def __init__(self, source_conn_id: str) -> None:
        super().__init__()
        self.source_conn_id = source_conn_id

    def access_to(self, reading: Reading) -> Access:
        """
        :return: what opens the source; its secrets are masked in this process's logs; the stage masks its own.
        :raises BadInput: there is no such connection, or it is of another kind.
        """
        try:
            connection = self.get_connection(self.source_conn_id)
        except AirflowNotFoundException as error:
            raise BadInput(
                f"The connection {self.source_conn_id!r} of {reading.source} does not exist. Add it in Airflow, or as "
                f"the variable AIRFLOW_CONN_{self.source_conn_id.upper()}."
            ) from error
        variables = self._database(connection) if reading.query is not None else self._bucket(connection)
        uri = variables.get(SQL_URI, "")
        quoted = urlsplit(uri).password or ""
        keys = [variables.get(f"{BUCKET}{name}") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
        for secret in filter(None, (uri, *keys, quoted, unquote(quoted))):
            mask_secret(secret)
        return Access(variables)

    def _bucket(self, connection: Connection) -> dict[str, str]:
        if connection.conn_type != "aws":
            raise self._unfit(connection, "an s3:// source needs one of type 'aws'")
        extra = connection.extra_dejson
        if extra.get("role_arn"):
            raise self._unfit(connection, "role_arn is not supported; give the role to the machine, or keys of its own")
        services = extra.get("service_config") or {}
        variables = {
            "AWS_ACCESS_KEY_ID": connection.login,
            "AWS_SECRET_ACCESS_KEY": connection.password,
            "AWS_DEFAULT_REGION": extra.get("region_name"),
            "AWS_SESSION_TOKEN": extra.get("session_token"),
            "AWS_ENDPOINT_URL_S3": (services.get("s3") or {}).get("endpoint_url") or extra.get("endpoint_url"),
        }
        return {f"{BUCKET}{name}": value for name, value in variables.items() if value}

    def _database(self, connection: Connection) -> dict[str, str]:
        if connection.conn_type == "aws":
            raise self._unfit(connection, "a query needs one of a database")
        uri = urlsplit(connection.get_uri())
        # Airflow writes extras that are no plain text as one option, which no database driver knows
        options = {name: value for name, value in connection.extra_dejson.items() if isinstance(value, str | int)}
        scheme = SQLALCHEMY_NAMES.get(uri.scheme, uri.scheme)
        return {SQL_URI: urlunsplit(uri._replace(scheme=scheme, query=urlencode(options)))}

    def _unfit(self, connection: Connection, why: str) -> BadInput:
        return BadInput(f"The connection {self.source_conn_id!r} is of type {connection.conn_type!r}: {why}.")


def access_to_source(source_conn_id: str | None, reading: Reading) -> Access:
    """:return: as :meth:`SourceConnectionHook.access_to`; nothing without a connection."""
    return SourceConnectionHook(source_conn_id).access_to(reading) if source_conn_id else Access()
