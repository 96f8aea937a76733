"""``python -m ratchet.cli.stack up | down | status | logs``"""

from __future__ import annotations

import argparse
import os
import sys

from ratchet.cli.stack import lifecycle
from ratchet.cli.stack.settings import Settings, StackError
from ratchet.cli.stack.supervisor import Supervisor


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ratchet.cli.stack", description="Run the embedded stack.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("up", help="start what does not run, and wait until everything answers")
    actions.add_parser("down", help="end every process of the stack")
    actions.add_parser("status", help="show each program")
    logs = actions.add_parser("logs", help="show the end of the logs")
    logs.add_argument("program", nargs="?", help="one program alone")
    logs.add_argument("--follow", action="store_true", help="go on as lines come")
    options = parser.parse_args(arguments)
    settings = Settings.from_environment()
    try:
        if options.action == "up":
            lifecycle.up(settings)
            print(sign_in(settings))
        elif options.action == "down":
            lifecycle.down(settings)
        elif options.action == "status":
            return show_status(settings)
        else:
            show_logs(settings, options.program, follow=options.follow)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
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
    """Print a line for each program. :return: 1 if one of them failed, else 0."""
    rows = lifecycle.status(settings)
    if not rows:
        print("The stack is down. Start it with: make up")
        return 0
    table = [("program", "state", "uptime", "pid", "address"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return int(any(row[1] not in ("running", "starting") for row in rows))


def show_logs(settings: Settings, program: str | None, *, follow: bool) -> None:
    """Print the last lines of one log or of all."""
    supervisor = Supervisor(settings)
    files = [supervisor.log_file(program)] if program else sorted(settings.logs.glob("*.log"))
    if not files or not all(file.exists() for file in files):
        known = ", ".join(sorted(file.stem for file in settings.logs.glob("*.log"))) or "none yet"
        raise StackError(f"No log of {program or 'any program'} in {settings.logs}. There is: {known}.")
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", "40", *(["-F"] if follow else []), *map(str, files)])


if __name__ == "__main__":
    sys.exit(main())
