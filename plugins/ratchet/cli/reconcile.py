"""``ratchet reconcile``: say where champion, endpoint and history disagree, and put it right."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence

from ratchet import settings
from ratchet.cli.active import active_runs, add_airflow
from ratchet.cli.registry import use_connections
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, RunError
from ratchet.cli.rollback import DAG as ROLLBACK_DAG
from ratchet.cli.specs import use_stack_settings

EXIT_DIFFERS = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "reconcile",
        help="say where champion, endpoint and history disagree",
        description="Compare the alias champion, the model that the endpoint itself reports and the history. With "
        "--fix they are brought back to the last version that was made champion and served; a move or a rollback that "
        "was killed when its version served already is finished. Exit status: 0 they agree, 1 MLflow or the endpoint "
        "host does not answer, or a run is active, 2 wrong usage, 3 something differs.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE", nargs="?", help="default: all")
    parser.add_argument("--fix", action="store_true", help="put it right; the history keeps what was done")
    add_airflow(parser)
    parser.set_defaults(execute=reconcile)


def reconcile(options: argparse.Namespace) -> int:
    """Look, and with ``--fix`` act. :return: the exit status."""
    from ratchet.ledger import pipelines, require_known
    from training.store import Store

    use_stack_settings()
    store = Store(settings.store_uri())
    if options.pipeline:
        require_known(store, options.pipeline)
    names = [options.pipeline] if options.pipeline else pipelines(store)
    try:
        use_connections()
        if options.fix and (active := active_runs(options, [*names, ROLLBACK_DAG])):
            raise RunError(f"A run is active: {', '.join(active)}. Nothing was changed. Wait for it, and repeat this.")
        return _go(names, fix=options.fix)
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _go(names: Sequence[str], *, fix: bool) -> int:
    """:raises RunError: a server does not answer, or a deployment failed."""
    import httpx
    from mlflow.exceptions import MlflowException

    from ratchet.alias import AliasBusy, AliasMoved  # Airflow takes a second to import
    from ratchet.hooks.endpoint_host import DeploymentFailed, DeploymentRefused, EndpointHostHook
    from ratchet.hooks.model_registry import ModelRegistryHook
    from ratchet.ledger import Ledger
    from ratchet.reconcile import Reconciler
    from training.store import Store

    registry, endpoints, store = ModelRegistryHook(), EndpointHostHook(), Store(settings.store_uri())
    status = EXIT_DONE
    for name in names:
        reconciler = Reconciler(
            registry,
            endpoints,
            Ledger(store, name),
            settings.work_directory() / "locks",
            who=getpass.getuser(),
            log=lambda line: print(line, file=sys.stderr),
        )
        try:
            done, left = reconciler.mend() if fix else ([], reconciler.differences())
        except (MlflowException, httpx.HTTPError) as error:
            raise RunError(
                f"{name}: nobody can tell: {error}. Are MLflow and the endpoint host up? (make up)"
            ) from error
        except (AliasBusy, DeploymentFailed, DeploymentRefused) as error:
            raise RunError(f"{name}: {error}") from error
        except AliasMoved as error:
            raise RunError(f"{name}: somebody moved the alias to {error.found} just now. Repeat this.") from error
        print("\n".join([f"{name}:", *(f"  - {one}" for one in [*done, *(each.told for each in left)])]))
        if not left:
            print("  alias, endpoint and history agree" + (" now" if done else ""))
        elif not fix and any(each.mend for each in left):
            print(f"  To put it right: ratchet reconcile {name} --fix")
        status = EXIT_DIFFERS if left else status
    return status
