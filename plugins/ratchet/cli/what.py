"""Read from the command line which objects and texts are meant. A text goes no further than its identity."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from training.contract import BadInput
from training.store import local_path
from training.text import identity_of


def add_texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", action="append", default=[], help="a text, in any case and spacing; may be repeated")
    parser.add_argument(
        "--texts",
        metavar="FILE",
        help="a file with a text, or a text as a JSON string, in each line; - reads them from the standard input",
    )


def identities(options: argparse.Namespace) -> list[str]:
    """
    :return: of the texts that were given, each once, in no order that says anything.
    :raises BadInput: they cannot be read.
    """
    texts = [*options.text, *(_lines(options.texts) if options.texts else ())]
    try:
        return sorted({identity_of(text) for text in texts if text.strip()})
    except UnicodeEncodeError:
        raise BadInput("A text holds bytes that are no UTF-8. Nothing was done. Give the texts in UTF-8.") from None


def _lines(name: str) -> list[str]:
    try:
        content = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{name}: the texts cannot be read ({type(error).__name__}). Nothing was done.") from None
    return [_text(line, name, number) for number, line in enumerate(content.split("\n"), 1)]


def _text(line: str, name: str, number: int) -> str:
    line = line.rstrip("\r")
    if not line.startswith('"'):
        return line
    try:
        return str(json.loads(line))
    except ValueError:
        raise BadInput(
            f"{name}, line {number}: it begins as a JSON string and is none. Nothing was done. Write the text as JSON "
            "does, or begin it otherwise."
        ) from None


def object_name(given: str) -> str:
    """:return: the name, or the glob, as sources name objects: a file by its whole path."""
    if given.startswith("file://"):
        return str(local_path(given))
    return given if "://" in given else str(Path(given).expanduser().absolute())
