"""Read a YAML file into plain values that remember their lines, and say what is wrong with it in one error."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

# Names that values hide behind, and values that give themselves away
SECRET_NAME = re.compile(
    r"secret|token|passw|(?<![a-z])pwd(?![a-z])|credential|authorization|(?:api|access|private|routing|integration)_?key",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    rf"""
    (?<![A-Za-z0-9])hf_(?:oauth_|jwt_)?(?=[a-z]*[A-Z0-9]|[a-z]{{24}})[A-Za-z0-9]{{14,}}[\w.-]*  # hf_datasets is a word
    | \b(?:AKIA|ASIA)\w{{8,}}
    | \b(?:xox[a-z]-|xapp-|gh[a-z]_|github_pat_|glpat-)(?=[\w-]*\d)[\w-]{{10,}}  # Slack, GitHub, GitLab
    | (?i:\bbearer\s+)(?=[\w.~+/-]*\d)[\w.~+/-]{{10,}}=*
    # whoever has the address of a webhook may write there: Slack, Teams, Discord
    | (?i:(?<=hooks\.slack\.com/)|(?<=webhook\.office\.com/)|(?<=logic\.azure\.com)|(?<=\.com/api/webhooks/))\S+
    | (?<=://)[^/]*?(?::|%3[Aa]).*(?:@|%40)  # user:password@; the password may hold a slash, the colon be encoded
    | (?<=://)(?<!hf://)[^/]*(?:@|%40)  # user@; hf://NAME@REVISION is none
    | (?<=[?&;])[^=&]*(?i:{SECRET_NAME.pattern}|signature|\bsig\b)[^=&]*=[^&]+
    """,
    re.VERBOSE,
)

MAX_BYTES = 256 * 1024  # assumed: a spec is a page of text; more is a data file under the wrong name


@dataclass(frozen=True, order=True)
class Problem:
    """One thing to correct: where it is and what was expected."""

    line: int
    key: str
    message: str


class SpecError(ValueError):
    """Everything that is wrong with one file, one ``FILE:LINE: KEY: MESSAGE`` per line of text."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path, self.problems = path, sorted(problems)
        super().__init__(
            "\n".join(f"{path}:{p.line}: {p.key + ': ' if p.key else ''}{p.message}" for p in self.problems)
        )


@dataclass(frozen=True)
class Document:
    """The values of a file, the line of every key and item, and the problems that reading alone can see."""

    values: dict[str, Any]
    lines: dict[KeyPath, int]
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """:return: the line of the key, or of the nearest section around it that the file does have."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def shown(self, path: KeyPath) -> str:
        """:return: the value as the file has it, for an error; cut short, and hidden if it looks like a secret."""
        value: Any = self.values
        try:
            for part in path:
                value = value[part]
        except (KeyError, IndexError, TypeError):
            return "nothing"
        if isinstance(value, dict | list):
            return "a list" if isinstance(value, list) else "keys and values"
        if SECRET_NAME.search(str(path[-1])):
            return "a value that is not shown"
        text = SECRET_VALUE.sub("***", json.dumps(value, ensure_ascii=False))
        return text if len(text) <= 80 else text[:77] + "..."


class RefusedYaml(yaml.MarkedYAMLError):
    """Good YAML that no spec needs."""

    def __init__(self, where: Any, problem: str) -> None:
        super().__init__(problem=problem, problem_mark=where and where.start_mark)


class Yaml12Loader(yaml.SafeLoader):
    """
    YAML 1.2's core schema: ``no`` and ``on`` are words, ``1e-4`` is a number, ``2026-01-01`` and ``12:30`` are text.

    PyYAML's own reading of plain words is YAML 1.1, where a label called ``no`` becomes False. Infinities, NaN and
    numbers too long to be meant stay text: nothing in a spec may be one.
    """

    yaml_implicit_resolvers = {}


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}\.[0-9]{0,18}|[0-9]{1,18}(\.[0-9]{0,18})?[eE][-+]?[0-9]{1,2})",
        list("-+.0123456789"),
    ),
):
    Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)


def read_document(path: Path, least: str = "data: {source, text, label}") -> Document:
    """
    :param least: what the shortest file of this kind holds, for the error about an empty one.
    :raises SpecError: the file cannot be read, is not YAML, or is no mapping of keys.
    """
    text = _text(path)
    try:
        return _parse(text, least)
    except RefusedYaml as error:
        problem = Problem(error.problem_mark.line + 1 if error.problem_mark else 1, "", f"{error.problem}.")
    except yaml.MarkedYAMLError as error:
        # str(error) would quote the lines around it, whatever they hold
        mark = error.problem_mark or error.context_mark
        about = "; ".join(part for part in (error.context, error.problem) if part)
        problem = Problem(mark.line + 1 if mark else 1, "", f"not YAML: {about}.")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = Problem(line, "", f"not YAML: character {error.character:#x} is not allowed.")
    except RecursionError:
        problem = Problem(1, "", "nested too deeply; a spec has three levels.")
    raise SpecError(path, [problem])


def _parse(text: str, least: str) -> Document:
    for token in yaml.scan(text, Loader=Yaml12Loader):
        # an alias can stand for more than any file holds (the "billion laughs"), a tag for any Python type
        if isinstance(token, (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)):
            kind = type(token).__name__.removesuffix("Token").lower()
            raise RefusedYaml(token, f"expected plain keys and values, found a YAML {kind}")
    loader = Yaml12Loader(text)
    root = loader.get_single_node()
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        raise RefusedYaml(root, f"the file is empty; expected at least {least}")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise RefusedYaml(root, f"expected keys and values, found {kind}")
    lines: dict[KeyPath, int] = {(): 1}
    problems: list[Problem] = []
    _index(root, (), lines, problems)
    return Document(loader.construct_document(root), lines, problems)


def _text(path: Path) -> str:
    if path.exists() and not path.is_file() and not path.is_dir():
        # a pipe would be waited for, and all other specs with it
        raise SpecError(path, [Problem(1, "", "a pipe, socket or device; expected a file NAME.yaml.")])
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        beside = [other.stem for other in path.parent.glob(f"*{path.suffix}")]
        close = difflib.get_close_matches(path.stem, beside, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise SpecError(path, [Problem(1, "", f"no such file.{meant}")]) from None
    except IsADirectoryError:
        raise SpecError(path, [Problem(1, "", "a directory; expected a file NAME.yaml.")]) from None
    except OSError as error:
        raise SpecError(path, [Problem(1, "", f"cannot be read: {error.strerror}.")]) from None
    if len(content) > MAX_BYTES:
        raise SpecError(path, [Problem(1, "", f"{len(content)} bytes; a spec has at most {MAX_BYTES}.")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(path, [Problem(line, "", f"not UTF-8: byte {content[error.start]:#04x}.")]) from None


def _index(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], problems: list[Problem]) -> None:
    """Note the line of everything below ``node``, and the keys that a mapping would silently overwrite."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[*path, i] = _line(item)
            _index(item, (*path, i), lines, problems)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise RefusedYaml(key, "expected a word as key")
            key.tag = "tag:yaml.org,2002:str"  # a key is a word, whatever it looks like: 1, true, null, <<
            here = (*path, key.value)
            if here in lines:
                message = f"given twice, first in line {lines[here]}; leave one."
                problems.append(Problem(_line(key), dotted(here), message))
            else:
                lines[here] = _line(key)
            _index(value, here, lines, problems)


def dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
