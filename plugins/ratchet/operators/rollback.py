"""Make a version that was champion before the champion again."""

from __future__ import annotations

from ratchet.alias import ROLLBACK
from ratchet.operators.promote import PromoteOperator


class RollbackOperator(PromoteOperator):
    """
    Move the alias ``champion`` back to a version that its endpoint serves again; the version that it leaves is barred.

    Safe to retry: an alias that is already there is left there. The ledger has who returned to which version and why,
    and that the gate does not promote the one that was left again. The next run competes with what is live then.

    :param candidate: ``models:/NAME/VERSION`` (templated).
    :param verdict: the ``decision`` that ``ChooseOperator`` returned (templated).
    :param deployment: what the deploy step returned: ``endpoint``, ``url``, ``digest``, ``model_digest`` (templated).
    :param notify: who is told of the rollback, as ``notify`` of a spec has it; or the folder of the pipeline's spec,
        which says so.
    :param pipeline: whose ledger records the move (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server.
    :param endpoint_conn_id: connection of the endpoint host.
    :return: ``model``, ``version``, ``previous`` version, ``hit`` and ``why``.
    :raises AirflowFailException: the alias was moved by somebody else since the version was chosen; it stays where it
        is.
    """

    ui_color = "#fbe3cf"
    kind = ROLLBACK
    event = "rollback"

    def _done(self, version: str, after: str) -> str:
        return f"rolled back: version {version} is {after.replace('champion', 'champion again', 1)}, which is barred,"
