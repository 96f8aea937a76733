"""Read the address of a server from its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Connection


def base_url(connection: Connection) -> str:
    """
    :return: ``http://host:port`` without credentials and without a slash at its end.
    :raises AirflowFailException: the host holds credentials, which would go wherever the address is shown.
    """
    host = connection.host or "127.0.0.1"
    url = urlsplit(host if "://" in host else f"{connection.schema or 'http'}://{host}")
    if "@" in url.netloc:
        raise AirflowFailException(
            f"The connection {connection.conn_id!r} has credentials in its host, where they would be shown; nothing "
            "was sent. Move them to login and password."
        )
    port = f":{connection.port}" if connection.port and url.port is None else ""
    return f"{url.scheme}://{url.netloc}{port}{url.path}".rstrip("/")
