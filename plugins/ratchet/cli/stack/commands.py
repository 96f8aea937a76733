"""``ratchet up``, ``down``, ``status`` and ``logs``: the embedded stack."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from ratchet.cli.stack import lifecycle
from ratchet.cli.stack.endpoints import endpoints
from ratchet.cli.stack.settings import Settings, StackError
from ratchet.cli.stack.supervisor import Supervisor
from ratchet.cli.table import table


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def add(name: str, text: str, action: Callable[..., int]) -> argparse.ArgumentParser:
        parser = subparsers.add_parser(name, help=text, description=f"The embedded stack: {text}.")
        parser.set_defaults(execute=_execute, action=action)
        return parser

    add("up", "start what does not run, and wait until everything answers", up)
    add("down", "end every process of the stack", down)
    add("status", "show each program and each endpoint", show_status)
    logs = add("logs", "show the end of the logs", show_logs)
    logs.add_argument("program", nargs="?", help="one program alone")
    logs.add_argument("--follow", action="store_true", help="go on as lines come")


def _execute(options: argparse.Namespace) -> int:
    own = {name: value for name, value in vars(options).items() if name not in ("execute", "action")}
    try:
        return options.action(Settings.from_environment(), **own)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def up(settings: Settings) -> int:
    lifecycle.up(settings)
    print(sign_in(settings))
    return 0


def down(settings: Settings) -> int:
    lifecycle.down(settings)
    return 0


def sign_in(settings: Settings) -> str:
    """:return: where the web pages are and how to sign in."""
    return (
        f"Airflow    {settings.url('airflow')}  sign in as admin, password {settings.passwords['admin']}\n"
        f"           other users (operator, viewer) and their passwords: {settings.passwords_file}\n"
        f"MLflow     {settings.url('mlflow')}\n"
        f"Endpoints  {settings.url('endpoints')}"
    )


def show_status(settings: Settings) -> int:
    """Print a line for each program and each endpoint. :return: 1 if a program failed, else 0."""
    rows = lifecycle.status(settings)
    if not rows:
        print("The stack is down. Start it with: make up")
        return 0
    print(table([("program", "state", "uptime", "pid", "address"), *rows]))
    found = endpoints(settings)
    if found:
        print(f"\n{table([('endpoint', 'state', 'address', 'serves'), *found])}")
    else:
        print("\nNo endpoint yet." if found is not None else "\nEndpoints: their host does not answer.")
    print(f"\nUsers of Airflow and their passwords: {settings.passwords_file}")
    return int(any(row[1] not in ("running", "starting") for row in rows))


def show_logs(settings: Settings, program: str | None, follow: bool) -> int:
    """Print the last lines of one log or of all."""
    supervisor = Supervisor(settings)
    files = [supervisor.log_file(program)] if program else sorted(settings.logs.glob("*.log"))
    if not files or not all(file.exists() for file in files):
        known = ", ".join(sorted(file.stem for file in settings.logs.glob("*.log"))) or "none yet"
        raise StackError(f"No log of {program or 'any program'} in {settings.logs}. There is: {known}.")
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "40", *(["-F"] if follow else []), *map(str, files)])
