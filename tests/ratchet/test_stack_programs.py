"""The stack's programs: loopback alone, named users, no secret in an argument, nothing that calls home."""

from __future__ import annotations

import json
import re

import pytest

from ratchet.cli.stack.programs import MARK, base_environment, programs, replaced_connections
from ratchet.cli.stack.settings import Settings


@pytest.fixture
def settings(tmp_path):
    made = Settings(home=tmp_path / "home", checkout=tmp_path / "checkout", dags=tmp_path / "dags")
    made.make_directories()
    made.choose_ports({})
    return made


def by_name(settings):
    return {program.name: program for program in programs(settings)}


def test_no_secret_is_in_the_arguments_of_a_process(settings):
    secrets = {*settings.secrets.values(), *settings.passwords.values()}
    arguments = [argument for program in programs(settings) for argument in program.command]
    assert not [argument for argument in arguments if any(secret in argument for secret in secrets)]


def test_each_program_gets_only_the_secrets_it_needs(settings):
    found = by_name(settings)
    for name, program in found.items():
        text = json.dumps(program.environment)
        assert (settings.secrets["jwt_secret"] in text) == name.startswith("airflow-"), name
        assert (settings.secrets["endpoint_token"] in text) == (name != "mlflow"), name


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AIRFLOW_CONN_WAREHOUSE",
        "AIRFLOW_VAR_KEY",
        "HTTPS_PROXY",
        "PATHWAY_KEY",
        "DB",
    ],
)
def test_only_airflow_inherits_what_may_be_a_secret(settings, name):
    having = {program.name for program in programs(settings) if re.fullmatch(program.inherits, name)}
    assert having == {name for name in by_name(settings) if name.startswith("airflow-")}


def test_a_server_inherits_what_it_is_found_and_kept_quiet_by(settings):
    for name in ("mlflow", "endpoints"):
        inherits = by_name(settings)[name].inherits
        assert all(re.fullmatch(inherits, variable) for variable in (*base_environment(settings, {}), "PATH", "HOME"))


def test_a_connection_of_the_users_that_the_stack_replaces_is_known(settings):
    airflow = by_name(settings)["airflow-scheduler"].environment
    own = [name for name in airflow if name.startswith("AIRFLOW_CONN_")]
    assert replaced_connections({**airflow, "AIRFLOW_CONN_WAREHOUSE": "x://"}) == own
    assert len(own) == 3


def test_everything_that_depends_on_a_port_follows_it(settings):
    airflow = by_name(settings)["airflow-scheduler"].environment
    api = f"http://127.0.0.1:{settings.ports['airflow']}"
    assert airflow["AIRFLOW__API__BASE_URL"] == api
    assert airflow["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{api}/execution/"
    for name, server in {
        "MLFLOW_DEFAULT": "mlflow",
        "RATCHET_ENDPOINTS": "endpoints",
        "RATCHET_AIRFLOW_API": "airflow",
    }.items():
        connection = json.loads(airflow[f"AIRFLOW_CONN_{name}"])
        assert (connection["host"], connection["port"]) == ("127.0.0.1", settings.ports[server])


def test_users_have_names_and_the_one_that_writes_notes_has_the_lowest_role_that_may(settings):
    airflow = by_name(settings)["airflow-api-server"].environment
    assert airflow["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    users = dict(user.split(":") for user in airflow["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(","))
    assert users == {"admin": "admin", "operator": "op", "ratchet": "user", "viewer": "viewer"}
    assert json.loads(airflow["AIRFLOW_CONN_RATCHET_AIRFLOW_API"])["login"] == "ratchet"


def test_a_task_outlives_an_api_server_that_is_away_for_three_minutes(settings):
    airflow = by_name(settings)["airflow-scheduler"].environment
    away = 180
    retries, longest = (
        int(airflow[f"AIRFLOW__WORKERS__EXECUTION_API_{name}"]) for name in ("RETRIES", "RETRY_WAIT_MAX")
    )
    average = (1 + longest) / 2  # each wait is drawn
    assert retries * average > 1.2 * away
    next_heartbeat = 5
    assert int(airflow["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) >= away + next_heartbeat + longest
    left_when_renewed = int(airflow["AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME"]) / 5
    assert left_when_renewed >= away + next_heartbeat + longest


def test_nothing_calls_home(settings):
    environment = base_environment(settings, {})
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert environment["DO_NOT_TRACK"] == "1"


def test_a_shell_set_up_for_another_airflow_does_not_reach_this_one(settings):
    shell = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "AIRFLOW_HOME": "/opt/airflow",
        "MLFLOW_TRACKING_URI": "https://mlflow.example",
        "PYTHONPATH": "/elsewhere",
        "MAKEFLAGS": "-j8",
    }
    assert not shell.keys() & base_environment(settings, shell).keys()


def test_the_users_own_settings_reach_the_stack(settings):
    shell = {
        "HF_HUB_OFFLINE": "1",
        "AWS_PROFILE": "work",
        "AIRFLOW_CONN_WAREHOUSE": "x://",
        "HTTPS_PROXY": "http://proxy",
    }
    environment = base_environment(settings, shell)
    assert shell.items() <= environment.items()


def test_a_proxy_never_stands_between_the_programs(settings):
    environment = base_environment(settings, {"HTTP_PROXY": "http://proxy", "NO_PROXY": "intranet"})
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_every_process_can_be_found_by_its_mark(settings):
    environment = base_environment(settings, {})
    assert environment[MARK] == str(settings.home)
    assert environment["SPT_NOENV"] == "1"


def test_a_program_whose_code_has_changed_is_another_program(settings, monkeypatch):
    from ratchet.cli.stack import programs as module

    before = programs(settings)
    monkeypatch.setattr(module, "code_version", lambda package: f"another {package}")
    changed = {now.name for was, now in zip(before, programs(settings), strict=True) if was != now}
    assert changed == {
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
        "endpoints",
    }
