"""Turn the locations that a spec names into full ones: variables, relative paths, and what may be a location at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from ratchet.document import SECRET_NAME, SECRET_VALUE

ENDPOINT_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
ENDPOINT_NAME_RULE = "at most 63 lower-case letters, digits and -, no - first"
BEHAVIOUR = ".behaviour.yaml"  # after a pipeline's name, the file of its behavioural tests
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
# What Airflow checks when a run is started: less than ``checked_source``, in what Python and browsers both read
SOURCE_PATTERN = (
    r"^(?!.*(?:hf_[A-Za-z0-9]{24}|(?:AKIA|ASIA)[A-Z0-9]{12}))"
    r"(?:$|/|file://[\w.\-]*/|s3://[\w.\-]+/|hf://[\w.\-]+(?:[/@?]|$))"
)
# Likewise of a model: a path, a file of the store, a registered version or a name on the Hub
MODEL_PATTERN = (
    r"^(?!.*(?:hf_[A-Za-z0-9]{24}|(?:AKIA|ASIA)[A-Z0-9]{12}))"
    r"(?:/|file:///|s3://[\w.\-]+/|models:/[^/@]+[/@]|(?:hf://)?\w[\w.\-]*(?:/[\w.\-]+)?(?:@[\w./\-]+)?$)"
)
HUB_DATA_SET = re.compile(r"[\w.-]+(/[\w.-]+)?(@[^/?\s]+)?(/[^/?\s]+)?(\?split=[^&\s]+)?")


def resolve_source(location: str, folder: Path, environment: Mapping[str, str]) -> str:
    """:return: an absolute path or a URI; a relative path starts at ``folder``. :raises ValueError: see ``expand``."""
    expanded = expand(location, environment)
    return expanded if "://" in expanded or not expanded else _absolute(expanded, folder)


def resolve_model(location: str, folder: Path, environment: Mapping[str, str]) -> str:
    """:return: likewise, where only ``./`` or ``../`` tells a relative path from a name on the Hub."""
    expanded = expand(location, environment)
    return _absolute(expanded, folder) if expanded.startswith(("./", "../")) else expanded


def expand(location: str, environment: Mapping[str, str]) -> str:
    """Replace ``${NAME}``. :raises ValueError: the variable is unset, looks like a secret or is written otherwise."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if SECRET_NAME.search(name):
            raise ValueError(f"expected a location, and {name} looks like the name of a secret; it was not read")
        if not environment.get(name):
            raise ValueError(f"the environment variable {name} is not set; set it where Airflow and ratchet run")
        return environment[name]

    if location.startswith("~"):
        raise ValueError("~ is not expanded, since Airflow may run as somebody else; expected ${HOME} or a full path")
    name_in_braces = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
    if "${" in re.sub(name_in_braces, "", location):
        raise ValueError("expected ${NAME} with nothing but a name in the braces")
    return re.sub(name_in_braces, value, location)


def checked_source(location: str) -> str:
    """:raises ValueError: no stage reads such a location, or it carries credentials."""
    scheme, separator, rest = location.partition("://")
    _refuse_credentials(location)
    if separator and scheme not in ("file", "s3", "hf"):
        raise ValueError("expected a path, file://, s3:// or hf://")
    if scheme == "s3" and not re.match(r"[\w.-]+/.", rest):
        raise ValueError("expected s3://bucket/key")
    if scheme == "hf" and not HUB_DATA_SET.fullmatch(rest):
        raise ValueError("expected hf://ORG/NAME@REVISION[/CONFIG][?split=NAME]")
    return location


def sql_source(connection: str) -> str:
    """:return: the source that stands for a query's database: its connection's id and nothing of what is in it."""
    return f"sql://{connection}"


def asset_uri(source: str, pipeline: str) -> str:
    """
    :return: ``source`` as the address of an Airflow asset. Airflow keeps one asset for an address, so that the
        pipeline is part of it: two pipelines may watch the same folder.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        scheme, rest = "file", source
    if scheme == "hf":
        rest = rest.partition("?")[0]
    return f"{scheme}://{quote(rest, safe='/*[]@:+,=%')}?pipeline={quote(pipeline)}"


def checked_model(location: str) -> str:
    """:raises ValueError: neither a name on the Hub nor an absolute path, or it carries credentials."""
    _refuse_credentials(location)
    if not location.startswith("/") and not HUB_NAME.fullmatch(location):
        raise ValueError("expected a Hub id, id@revision, or a local directory that starts with / or ./")
    return location


def given_model(location: str, folder: Path) -> str:
    """
    :param location: a directory, also a relative one, or what MODEL_PATTERN takes.
    :return: a directory by its whole path.
    :raises ValueError: it can be no model, or it carries credentials.
    """
    _refuse_credentials(location)
    if location.startswith(("./", "../", "~")) or (folder / location).is_dir():
        return _absolute(str(Path(location).expanduser()), folder)
    if not re.match(MODEL_PATTERN, location):
        raise ValueError("expected a Hub id, id@revision, models:/NAME/VERSION, a directory, file:// or s3://")
    return location


def _refuse_credentials(location: str) -> None:
    if SECRET_VALUE.search(location):
        raise ValueError(
            "expected a location without credentials: they would be shown in the Airflow UI. "
            "Give them to the training environment instead (AWS_* variables, HF_TOKEN)"
        )


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / path)


def behaviour_path(spec: Path) -> Path:
    """:param spec: ``NAME.yaml``. :return: where its behavioural tests are, if it has any."""
    return spec.with_name(f"{spec.stem}{BEHAVIOUR}")


def spec_of(behaviour: Path) -> Path:
    """:param behaviour: ``NAME.behaviour.yaml``. :return: the spec that it belongs to."""
    return behaviour.with_name(f"{behaviour.name.removesuffix(BEHAVIOUR)}.yaml")


def pipelines_of(folder: Path) -> list[str]:
    """:return: names of the pipelines that have a spec in the folder."""
    return sorted(spec.stem for spec in folder.glob("*.yaml") if not spec.name.endswith(BEHAVIOUR))
