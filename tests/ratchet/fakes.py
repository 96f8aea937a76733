"""Stand-ins that remember: a registry, an endpoint host and a task's context."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace

from ratchet.alias import PROMOTION, Move
from ratchet.hooks.endpoint_host import DeploymentFailed, DeploymentRefused, EndpointState
from ratchet.hooks.model_registry import ListedVersion, ModelVersion
from training.contract import Unreachable


def promotion(**facts):
    """:return: why the champion moves; ``facts`` say endpoint, release and weights, and what else is not as usual."""
    usual = {"kind": PROMOTION, "verdict": "promote", "who": "anna", "why": "because"}
    return Move(**{**usual, "dag_id": "intents", "run_id": "run_1", **facts})


class FakeRegistry:
    """MLflow's registry, as far as the hook shows it."""

    tracking_uri = "http://mlflow.example"
    environment = {"MLFLOW_TRACKING_URI": tracking_uri}

    def __init__(self, *versions, champion=None, challenger=None, name="intents"):
        self.versions = {v: ModelVersion(name, v, f"run{v}", {"ratchet.model_digest": f"m{v}"}) for v in versions}
        self.aliases = {alias: v for alias, v in (("champion", champion), ("challenger", challenger)) if v}
        self.tags, self.run_tags, self.files, self.moves = {}, {}, {}, []
        self.kept, self.away = {}, False
        self.metrics = {}  # experiment to run to metrics
        self.after_set = lambda: None

    def find_version(self, reference):
        match = re.fullmatch(r"models:/[^/@]+(?:/(\d+)|@(\w+))", reference)
        if match is None:
            raise ValueError(reference)
        return self.versions.get(match[1] or self.aliases.get(match[2]))

    def list_models(self):
        return ["intents"]

    def list_versions(self, name):
        aliases = {v: tuple(sorted(a for a, named in self.aliases.items() if named == v)) for v in self.versions}
        made = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
        return [
            ListedVersion(name, v, one.run_id, {**one.tags, **self.tags.get(v, {})}, aliases[v], made)
            for v, one in sorted(self.versions.items(), key=lambda item: -int(item[0]))
        ]

    def run_metrics(self, experiment):
        return self.metrics.get(experiment, {})

    def set_alias(self, version, alias):
        self.aliases[alias] = version.version
        self.moves.append((alias, version.version))
        self.after_set()

    def remove_alias(self, name, alias):
        self.aliases.pop(alias, None)

    def end_challenge(self, version):
        if self.aliases.get("challenger") == version.version:
            del self.aliases["challenger"]

    def tag_version(self, version, tags):
        self.tags.setdefault(version.version, {}).update(tags)
        self.versions[version.version].tags.update(tags)

    def tag_run(self, run_id, tags):
        self.run_tags.setdefault(run_id, {}).update(tags)

    def log_text(self, run_id, text, file_name):
        self.files[run_id, file_name] = text

    def keep_card(self, version, text):
        self.files[version.uri, "README.md"] = text

    def keep_files(self, experiment, name, files, tags, found_by):
        if self.away:
            raise Unreachable(f"MLflow at {self.tracking_uri} did not take it: connection refused")
        run = f"{experiment}/{tags[found_by]}"
        self.kept.setdefault(run, (dict(files), dict(tags)))
        return run, "8"

    def experiment_of(self, run_id):
        return "7"

    def run_url(self, run_id, experiment_id):
        return f"{self.tracking_uri}/{experiment_id}/{run_id}"

    def artifact_url(self, run_id, experiment_id, path):
        return f"{self.run_url(run_id, experiment_id)}/{path}"

    def version_url(self, name, version):
        return f"{self.tracking_uri}/{name}/{version}"


class FakeEndpoints:
    """The endpoint host; ``broken`` releases never start; the one endpoint may belong to a registered model."""

    url = "http://127.0.0.1:9"

    def __init__(self, digest=None, broken=(), owner=None):
        self.digest, self.broken, self.owner, self.deployments = digest, broken, owner, []
        self.answers_with = None  # a digest that the endpoint reports instead of the truth

    def describe(self, name):
        return self.digest and EndpointState(name, self.url, "serving", self.digest, "m" + self.digest, {})

    def deploy(self, name, release, digest, timeout, log, *, owner=None):
        if self.owner not in (None, owner):
            raise DeploymentRefused(f"{name!r} belongs to the registered model {self.owner!r}.")
        self.owner = owner
        if digest != self.digest:
            self.deployments.append((name, release, digest))
        if digest in self.broken:
            raise DeploymentFailed(
                f"Endpoint {name!r} did not take {digest}: smoke test failed; {self.digest} still serves."
            )
        self.digest = digest
        return self.describe(name)

    def list_endpoints(self):
        return [{"name": "desk", "digest": self.digest}] if self.digest else []

    def served_digest(self, url):
        return self.answers_with or self.digest

    def served_model(self, url):
        return "m" + self.served_digest(url)


class FakeTask:
    """The running task's side of the context."""

    id, dag_id, task_id, map_index, try_number = "0190", "intents", "approve", -1, 1

    def __init__(self, run_id):
        self.run_id, self.xcoms = run_id, {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value


def context(run_id="manual__1", user="anna", **params):
    task = FakeTask(run_id)
    return {
        "ti": task,
        "task_instance": task,
        "run_id": run_id,
        "dag_run": SimpleNamespace(
            dag_id="intents",
            run_id=run_id,
            run_type="manual",
            logical_date=None,
            triggering_user_name=user,
            run_after=datetime.now(UTC),
        ),
        "params": params,
    }
