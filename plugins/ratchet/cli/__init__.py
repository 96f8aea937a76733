"""``ratchet``: run, check, plan and try pipelines from the command line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from ratchet.cli.home import has_stack
from ratchet.document import SpecError
from training.contract import EXIT_BAD_INPUT, BadInput
from training.visible import VisibleStream

# subcommand -> module with ``add_parser(subparsers)``, imported only for the subcommand that was asked for, or for help
IN_A_CHECKOUT = {
    **dict.fromkeys(("up", "down", "status", "logs"), "ratchet.cli.stack.commands"),
    "sample": "ratchet.cli.sample",
}
COMMANDS = {
    "run": "ratchet.cli.run",
    "validate": "ratchet.cli.validate",
    "plan": "ratchet.cli.plan",
    "try": "ratchet.cli.try_spec",
    "seen": "ratchet.cli.seen",
    "forget": "ratchet.cli.forget",
    "history": "ratchet.cli.history",
    "replay": "ratchet.cli.replay",
    "import": "ratchet.cli.import_model",
    "rollback": "ratchet.cli.rollback",
    "reconcile": "ratchet.cli.reconcile",
    "gc": "ratchet.cli.gc",
    **(IN_A_CHECKOUT if has_stack() else {}),
}

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class _Parser(argparse.ArgumentParser):
    """Takes a list of OBJECT from behind an option as well, which argparse does by itself from Python 3.12.7 on."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        options, rest = super().parse_known_args(args, namespace)
        if isinstance(getattr(options, "objects", None), list) and self.get_default("objects") is None:
            options.objects = [*options.objects, *(word for word in rest if not word.startswith("-"))]
            rest = [word for word in rest if word.startswith("-")]
        return options, rest


def main(arguments: Sequence[str] | None = None) -> int:
    """:return: the exit status: 2 for a spec, data or an option that no retry mends."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="ratchet", description="Retrain, gate and deploy Hugging Face models.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    asked = [COMMANDS[name] for name in arguments[:1] if name in COMMANDS]
    for module in asked or dict.fromkeys(COMMANDS.values()):
        importlib.import_module(module).add_parser(subparsers)
    options = parser.parse_args(arguments)
    with redirect_stdout(VisibleStream(sys.stdout)), redirect_stderr(VisibleStream(sys.stderr)):
        return _execute(options)


def _execute(options: argparse.Namespace) -> int:
    try:
        return options.execute(options)
    except (SpecError, BadInput) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
