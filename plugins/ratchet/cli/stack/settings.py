"""What one embedded stack is made of on disk: its directories, its ports and its secrets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ratchet.cli import atomic
from ratchet.cli.home import CHECKOUT, ratchet_home

ROLES = {  # users of the Airflow UI, from the one who may do everything to the one who may look
    "admin": "admin",
    "operator": "op",
    "ratchet": "user",  # writes run notes; the lowest role that may
    "viewer": "viewer",
}
LOOPBACK = "127.0.0.1"
USUAL_PORTS = {"airflow": 8080, "mlflow": 5001, "endpoints": 8090}  # 5000 is taken on macOS
OTHER_PORTS = range(20_000, 30_000)  # below what systems hand out for outgoing connections
SOCKET_PATH_BYTES = 90  # of 104 on macOS and 108 on Linux; supervisord appends its process id while it binds


class StackError(Exception):
    """The stack is not as it should be. The message says what was left undone and what to do next."""


@dataclass(frozen=True)
class Settings:
    """:param home: everything the stack owns is below it."""

    home: Path
    checkout: Path
    dags: Path

    @classmethod
    def from_environment(cls) -> Settings:
        dags = Path(os.environ.get("RATCHET_DAGS") or CHECKOUT / "dags").expanduser().absolute()
        return cls(home=ratchet_home(), checkout=CHECKOUT, dags=dags)

    @property
    def training_python(self) -> Path:
        return self.checkout / ".venv-training" / "bin" / "python"

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def passwords_file(self) -> Path:
        return self.run / "passwords.json"

    @property
    def control_socket(self) -> Path:
        """A path short enough for the system, in a directory that only this user may enter."""
        usual = self.run / "supervisor.sock"
        if len(os.fsencode(usual)) <= SOCKET_PATH_BYTES:
            return usual
        place = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"ratchet-{os.getuid()}-{place}"
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StackError(f"{directory} is not a private directory of this user; remove it or set TMPDIR.")
        return directory / "supervisor.sock"

    def make_directories(self) -> None:
        """:raises StackError: the stack cannot live there."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            for private in (self.run, self.airflow_home, self.home / "endpoints"):
                private.mkdir(exist_ok=True)
                private.chmod(0o700)
            for name in ("logs", "mlflow", "store", "work"):
                (self.home / name).mkdir(exist_ok=True)
        except OSError as error:
            raise StackError(
                f"RATCHET_HOME={self.home} cannot be used: {error.strerror} ({error.filename}); nothing was started. "
                "Name a directory that can be made or written."
            ) from error

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Keys that sign sessions, encrypt connections and open the endpoint host: generated once and kept."""
        return _kept(
            self.run / "secrets.json",
            {
                "fernet_key": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
                "api_secret_key": lambda: secrets.token_urlsafe(32),
                "jwt_secret": lambda: secrets.token_urlsafe(48),
                "endpoint_token": lambda: secrets.token_urlsafe(32),
            },
        )

    @cached_property
    def passwords(self) -> dict[str, str]:
        """The password of each user of the Airflow UI."""
        return _kept(self.passwords_file, {user: lambda: secrets.token_urlsafe(12) for user in ROLES})

    @property
    def ports(self) -> dict[str, int]:
        """
        The ports of the last ``up``.

        :raises StackError: there was none.
        """
        try:
            return json.loads((self.home / "ports.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise StackError(f"No stack was ever started in {self.home}. Start it with: make up") from None

    def choose_ports(self, environment: Mapping[str, str]) -> dict[str, int]:
        """
        Keep a port for each server: the one asked for, else the one it had, else its usual one, else any free one.

        :raises StackError: a port that was asked for is taken, or asked for twice.
        """
        file = self.home / "ports.json"
        kept = json.loads(file.read_text()) if file.exists() else {}
        chosen = _asked_for(environment)
        for name, usual in USUAL_PORTS.items():
            if name not in chosen:
                candidates = [kept.get(name), usual, *random.sample(OTHER_PORTS, 50)]
                chosen[name] = next(p for p in candidates if p and p not in chosen.values() and _is_free(p))
        write_private(file, chosen)
        return chosen

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[name]}"


def _asked_for(environment: Mapping[str, str]) -> dict[str, int]:
    """:return: the ports that the user chose, by server."""
    asked: dict[str, int] = {}
    for name in USUAL_PORTS:
        variable = f"{name.upper()}_PORT"
        if value := environment.get(variable):
            if not value.isdecimal() or not 0 < int(value) < 65_536:
                raise StackError(f"{variable}={value!r} is no port; nothing was started.")
            if int(value) in asked.values():
                other = next(other for other, port in asked.items() if port == int(value))
                raise StackError(f"{variable}={value} is {other.upper()}_PORT too; nothing was started. Change one.")
            if not _is_free(int(value)):
                raise StackError(f"{variable}={value} is taken by another program; nothing was started. Free it.")
            asked[name] = int(value)
    return asked


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are still closing is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _kept(file: Path, make: Mapping[str, object]) -> dict[str, str]:
    found: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in make if name not in found]
    if missing:
        found.update({name: make[name]() for name in missing})  # type: ignore[operator]
        write_private(file, found)
    return found


def write_private(file: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    atomic.write_text(file, text, mode=0o600)
