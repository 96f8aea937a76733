"""Say which programs the stack runs, with which command and environment, and when each is ready."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ratchet.cli.stack.settings import LOOPBACK, ROLES, Settings
from serving.environment import INHERITED
from training.keys import code_version

MARK = "RATCHET_STACK"  # in the environment of every process of a stack: finds them when supervisord is gone
CODE = "RATCHET_CODE"  # a program whose code has changed since it was started is started anew by the next `up`
QUIET = {  # nothing calls home
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
# A shell's settings for another Airflow or another Python must not reach this one; its connections and variables may.
LEFT_BEHIND = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "MLFLOW_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS")


@dataclass(frozen=True)
class Program:
    """One long-running process of the stack."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    address: str | None = None
    ready: str | None = None  # URL that answers 200 when the program is ready
    heartbeat: str | None = None  # its component in Airflow's health report
    needs_database: bool = False  # waits for the migration of Airflow's database
    after: str | None = None  # URL that must answer before the program starts, whoever starts it
    inherits: str = ".*"  # names of the variables that it takes from the user's shell


def programs(settings: Settings) -> list[Program]:
    """:return: the programs in the order in which they are shown."""
    airflow = airflow_environment(settings)
    api, mlflow, endpoints = settings.url("airflow"), settings.url("mlflow"), settings.url("endpoints")
    api_answers = f"{api}/api/v2/version"
    python, training_python = sys.executable, str(settings.training_python)

    def component(name: str, *arguments: str, **more: str) -> Program:
        command = [python, "-m", "airflow", name, *arguments]
        return Program(f"airflow-{name}", command, airflow, needs_database=True, **more)

    return [
        component(
            "api-server",
            *("--host", LOOPBACK, "--port", str(settings.ports["airflow"]), "--workers", "1"),
            address=api,
            ready=api_answers,
        ),
        # A task that is begun without the API server fails, and has used up an attempt.
        # Their log servers would listen on every interface, and with one machine nobody asks them.
        component("scheduler", "--skip-serve-logs", heartbeat="scheduler", after=api_answers),
        component("dag-processor", heartbeat="dag_processor"),
        component("triggerer", "--skip-serve-logs", heartbeat="triggerer", after=api_answers),
        Program(
            "mlflow",
            [
                *(training_python, "-m", "mlflow", "server"),
                *("--host", LOOPBACK, "--port", str(settings.ports["mlflow"]), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{settings.home / 'mlflow' / 'mlflow.db'}"),
                # Clients write artifacts straight to the root: no upload that times out, no second copy
                *("--default-artifact-root", (settings.home / "mlflow" / "artifacts").as_uri(), "--no-serve-artifacts"),
            ],
            # The job runner serves MLflow's hosted scorers, which no part of Ratchet calls.
            # It takes eight processes and 650 MB (measured).
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            inherits=INHERITED,
            address=mlflow,
            ready=f"{mlflow}/health",
        ),
        Program(
            "endpoints",
            [
                *(training_python, "-m", "serving.host"),
                *("--state", str(settings.home / "endpoints"), "--port", str(settings.ports["endpoints"])),
            ],
            {
                "RATCHET_ENDPOINT_TOKEN": settings.secrets["endpoint_token"],
                "PYTHONPATH": str(settings.checkout),
                CODE: code_version("serving"),
            },
            inherits=INHERITED,  # the stack's store is a directory: nothing here asks for AWS_*
            address=endpoints,
            ready=f"{endpoints}/health",
        ),
    ]


def base_environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """
    :return: what supervisord and Airflow get: the user's environment, so that proxies, AWS and Hugging Face settings
        hold in every step. The servers take from it what their ``inherits`` names.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(LEFT_BEHIND)}
    past_the_proxy = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), LOOPBACK, "localhost"]))
    return {
        **kept,
        **QUIET,
        MARK: str(settings.home),
        "NO_PROXY": past_the_proxy,
        "no_proxy": past_the_proxy,
        "PYTHONUNBUFFERED": "1",
        "SPT_NOENV": "1",  # setproctitle writes over the environment that MARK is read from, unless told not to
        "RATCHET_HOME": str(settings.home),
    }


def replaced_connections(inherited: Mapping[str, str]) -> list[str]:
    """:return: the user's variables for connections that the stack makes itself."""
    return [variable for name in CONNECTIONS if (variable := f"AIRFLOW_CONN_{name}") in inherited]


def airflow_environment(settings: Settings) -> dict[str, str]:
    """:return: the configuration of every Airflow process."""
    api = settings.url("airflow")
    keys = settings.secrets
    cores = os.cpu_count() or 2
    options = {
        "core.dags_folder": settings.dags,
        "core.plugins_folder": settings.checkout / "plugins",
        "core.load_examples": False,
        "core.executor": "LocalExecutor",
        # Steps of several pipelines beside each other; a worker is a process, started when it is needed
        "core.parallelism": min(max(4, cores), 16),
        "core.auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "core.simple_auth_manager_all_admins": False,  # with it, anyone could answer an approval
        "core.simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in ROLES.items()),
        "core.simple_auth_manager_passwords_file": settings.passwords_file,
        "core.dags_are_paused_at_creation": True,
        "core.fernet_key": keys["fernet_key"],
        "core.execution_api_server_url": f"{api}/execution/",
        "api.base_url": api,
        "api.host": LOOPBACK,
        "api.port": settings.ports["airflow"],
        "api.secret_key": keys["api_secret_key"],
        "api_auth.jwt_secret": keys["jwt_secret"],
        "database.sql_alchemy_conn": f"sqlite:///{settings.airflow_home / 'airflow.db'}",
        "dag_processor.refresh_interval": 10,  # seconds until a new file in dags/ is seen
        "dag_processor.min_file_process_interval": 10,  # and until a change, which may be in the spec beside it
        "scheduler.scheduler_idle_sleep_time": 0.2,  # seconds between two looks for work
        # Seconds until a task whose worker died is retried. The scheduler cannot tell that from an API server that is
        # away, which took two minutes to come back on a busy machine (measured): it may take three.
        "scheduler.task_instance_heartbeat_timeout": 200,
        "workers.execution_api_retries": 50,  # and for so long a worker knocks: four to five minutes
        "workers.execution_api_retry_wait_max": 10,
        "execution_api.jwt_expiration_time": 1800,  # renewed when a fifth of it is left, which must outlast that
        "scheduler.task_instance_heartbeat_timeout_detection_interval": 5,
        "scheduler.orphaned_tasks_check_interval": 30,  # and one whose scheduler died
        "logging.base_log_folder": settings.airflow_home / "logs",
        "logging.colored_console_log": False,
        "ratchet.training_python": settings.training_python,
        "ratchet.store": (settings.home / "store").as_uri(),
        "ratchet.work": settings.home / "work",
        "ratchet.training_path": settings.dags,  # a Trainer subclass may stand beside the spec that names it
    }
    return {
        "AIRFLOW_HOME": str(settings.airflow_home),
        CODE: code_version("plugins"),
        "PYTHONPATH": f"{settings.checkout / 'plugins'}{os.pathsep}{settings.checkout}",
        **{f"AIRFLOW__{key.replace('.', '__').upper()}": str(value) for key, value in options.items()},
        **{f"AIRFLOW_CONN_{name}": json.dumps(made(settings)) for name, made in CONNECTIONS.items()},
    }


def _http(settings: Settings, server: str, **more: str) -> dict[str, str | int]:
    return {"conn_type": "http", "schema": "http", "host": LOOPBACK, "port": settings.ports[server], **more}


CONNECTIONS: dict[str, Callable[[Settings], dict[str, str | int]]] = {
    "MLFLOW_DEFAULT": lambda stack: _http(stack, "mlflow"),
    "RATCHET_ENDPOINTS": lambda stack: _http(stack, "endpoints", password=stack.secrets["endpoint_token"]),
    "RATCHET_AIRFLOW_API": lambda stack: _http(stack, "airflow", login="ratchet", password=stack.passwords["ratchet"]),
}
