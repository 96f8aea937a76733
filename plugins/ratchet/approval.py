"""Remember what a person answered to a verdict, so that nobody is asked twice about the same one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ratchet.judged import candidate_of
from ratchet.ledger import APPROVED, BARRED

if TYPE_CHECKING:
    from ratchet.ledger import Ledger

LONGEST_REASON = 500  # characters, as the form has it; the API takes any
DEFAULT_USERS = "admin:admin"  # Airflow's own: what a worker says that does not have the API server's configuration
DEADLINE = "the deadline"  # who rejects when nobody answers


@dataclass(frozen=True)
class Answer:
    """What was answered to one verdict."""

    approved: bool
    who: str
    when: str  # ISO 8601, UTC
    why: str | None

    @property
    def told(self) -> str:
        """The answer in words, for the run's note and as a reason of the verdict."""
        by = self.why if self.who == DEADLINE else f"by {self.who}" + (f": {self.why}" if self.why else "")
        return f"approved {by}" if self.approved else f"rejected: {by}"


def unknown_users(names: Sequence[str]) -> list[str]:
    """
    :return: those that Airflow has no user for, as far as a step can tell: the simple auth manager has its users in the
        configuration, any other one has them to itself.
    """
    from airflow.sdk.configuration import conf

    users = conf.get("core", "simple_auth_manager_users", fallback="")
    is_simple = conf.get("core", "auth_manager", fallback="").endswith(".SimpleAuthManager")
    anyone = conf.getboolean("core", "simple_auth_manager_all_admins", fallback=False)
    if not is_simple or anyone or users in ("", DEFAULT_USERS):
        return []
    known = {user.partition(":")[0].strip() for user in users.split(",")}
    return [name for name in names if name not in known]


def answer_of(request: Mapping[str, Any], approve: str, within: str) -> Answer:
    """
    :param request: what Airflow keeps of a question and its answer.
    :param approve: the option that approves; any other one rejects.
    :param within: how long there was to answer, in words.
    """
    responded, user = request["responded_at"], request.get("responded_by_user")
    when = responded if isinstance(responded, datetime) else datetime.fromisoformat(responded)
    reason = (request.get("params_input") or {}).get("reason")
    why = " ".join(reason.split())[:LONGEST_REASON] if isinstance(reason, str) else ""
    return Answer(
        approved=request["chosen_options"] == [approve],
        who=user["name"] if user else DEADLINE,
        when=when.isoformat(timespec="seconds"),
        why=(why or None) if user else f"nobody answered within {within}",
    )


def known_answer(ledger: Ledger, verdict: Mapping[str, Any]) -> Answer | None:
    """:return: what was answered to this very verdict; None: nobody answered it yet."""
    record = ledger.last(APPROVED, BARRED, verdict=verdict["key"])
    return Answer(**record["answer"]) if record else None


def remember(ledger: Ledger, verdict: Mapping[str, Any], answer: Answer, run_id: str) -> None:
    """Write the answer down; the weights that were rejected are barred. Safe to repeat."""
    if known_answer(ledger, verdict) is not None:
        return
    ledger.append(
        APPROVED if answer.approved else BARRED,
        **candidate_of(verdict),
        verdict=verdict["key"],
        who=answer.who,
        why=answer.why if answer.approved or answer.who == DEADLINE else _rejection(answer),
        run_id=run_id,
        answer=asdict(answer),
    )


def _rejection(answer: Answer) -> str:
    return f"rejected: {answer.why}" if answer.why else "rejected"
