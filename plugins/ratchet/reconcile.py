"""
Say where alias, endpoint and ledger of a pipeline disagree, and bring them together.

The champion of record is the version of the last move that the ledger calls done: the gate let it through, or a person
went back to it, and the endpoint served it. What disagrees is brought back to it, with two exceptions. A move or a
rollback that was begun, and whose version serves already, is finished: who began it decided so. And a version that
somebody made champion by hand *and* put on the endpoint is what users see: it stays, and is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.alias import (
    REPAIR,
    ROLLBACK,
    ChampionAlias,
    Move,
    before,
    champion_after,
    facts_of,
    is_fresh,
    last_move,
    mark,
)
from ratchet.hooks.model_registry import PREVIOUS
from ratchet.ledger import ALIAS_DONE, ALIAS_EVENTS, ALIAS_INTENT, BARRED, REPAIRED, ROLLBACK_BEGUN, Ledger, Record
from training.tags import ENDPOINT_TAG, MODEL_TAG, RELEASE_TAG

if TYPE_CHECKING:
    from ratchet.hooks.endpoint_host import EndpointHostHook
    from ratchet.hooks.model_registry import ModelRegistryHook, ModelVersion

DEPLOY_TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True)
class Difference:
    """One thing that does not agree with the others."""

    told: str  # a sentence
    remedy: str | None  # what puts it right, a sentence; None: a person has to
    mend: Callable[[], object] | None = None


class Reconciler:
    """
    Looks at one pipeline.

    :param locks: local directory of the locks of the alias.
    :param who: has it put right.
    :param log: told of every step of a deployment.
    """

    def __init__(
        self,
        registry: ModelRegistryHook,
        endpoints: EndpointHostHook,
        ledger: Ledger,
        locks: Path,
        *,
        who: str,
        log: Callable[[str], None],
    ) -> None:
        self.registry, self.endpoints, self.ledger = registry, endpoints, ledger
        self.who, self.log = who, log
        last = last_move(ledger)
        self.model = last["model"] if last else ledger.pipeline
        self.alias = ChampionAlias(registry, ledger, self.model, locks)

    def differences(self) -> list[Difference]:
        """:return: what disagrees; none also while a move is under way."""
        last = last_move(self.ledger)
        if last is None or (last["event"] == ALIAS_INTENT and is_fresh(self.ledger, last)):
            return []
        done = self.ledger.last(ALIAS_DONE)
        if last["event"] == ALIAS_INTENT:
            return [self._killed(last)]
        if done is None:
            return []  # a champion by hand, of a model that Ratchet never deployed: there is nothing to hold it against
        if (begun := self._rollback_half_done()) is not None:
            return [begun]
        champion = self.registry.find_version(self._uri(done["to"]))
        if champion is None:
            return [self._deleted(done)]
        found = [self._alias_or_endpoint(last, done, champion)]
        return [difference for difference in found if difference] or self._details(done, champion)

    def mend(self) -> tuple[list[str], list[Difference]]:
        """
        Put right what can be, one thing after the other; the ledger has each.

        :return: what was done, a sentence each, and what is left.
        """
        done: dict[str, str] = {}
        while True:
            found = self.differences()
            difference = next((one for one in found if one.mend and one.told not in done), None)
            if difference is None or difference.mend is None or difference.remedy is None:
                return [f"{told} {remedy}" for told, remedy in done.items()], found
            difference.mend()
            self.ledger.append(REPAIRED, who=self.who, found=difference.told, done=difference.remedy)
            done[difference.told] = difference.remedy

    # -- what may disagree -----------------------------------------------------------------------------------------

    def _killed(self, intent: Record) -> Difference:
        begun = f"Run {intent['run_id']} was to move the champion from version {intent['from']} to {intent['to']}"
        named = self.alias.named()
        if named == intent["to"]:
            told = f"{begun}; it did, and was killed before it said so."
            return Difference(told, "The ledger says now that it is done.", self.alias.settle)
        if named == intent["from"] and self._served(intent["endpoint"]) == intent["model_digest"]:
            told = f"{begun}; the endpoint {intent['endpoint']!r} serves it, and the run was killed before it did."
            return Difference(told, f"The alias names version {intent['to']} now.", lambda: self._finish(intent))
        return Difference(
            f"{begun}, and did not: it was killed, and the alias names {_version(named)}.",
            "The ledger says now that this came to nothing.",
            self.alias.settle,
        )

    def _rollback_half_done(self) -> Difference | None:
        begun = self.ledger.last(*ALIAS_EVENTS, ROLLBACK_BEGUN)
        if begun is None or begun["event"] != ROLLBACK_BEGUN or is_fresh(self.ledger, begun):
            return None
        back = self.ledger.last(ALIAS_DONE, to=begun["to"])
        if back is None or self.alias.named() != begun["from"]:
            return None
        if self._served(back["endpoint"]) != back.get("model_digest"):
            return None
        told = (
            f"The rollback from version {begun['from']} to {begun['to']} that {begun['who']} began ({begun['why']}) "
            f"was broken off: the endpoint {back['endpoint']!r} serves version {begun['to']} again, and the alias does "
            "not name it."
        )
        move = {**facts_of(back), **facts_of(begun), "kind": ROLLBACK, "verdict": None, "raises_mark": False}
        return Difference(told, f"The alias names version {begun['to']} now.", lambda: self._finish(move))

    def _deleted(self, done: Record) -> Difference:
        return Difference(
            f"Version {done['to']} of {self.model}, which was made champion on {done['time'][:10]}, is not in MLflow "
            "any more. Bring MLflow's data back, or return to another version with ratchet rollback.",
            None,
        )

    def _mark_gone(self) -> Difference | None:
        version = mark(self.ledger)
        if version is None or self.registry.find_version(self._uri(version)) is not None:
            return None
        return Difference(
            f"Version {version} of {self.model}, the best ever promoted, is not in MLflow any more. No candidate can "
            "be compared with it, so every evaluation fails. Bring MLflow's data back, or do without it.",
            f"Version {version} is no mark any more.",
            lambda: self._lower_mark(version),
        )

    def _lower_mark(self, version: str) -> None:
        """A version that is barred is no mark; the ledger keeps who took it away."""
        moved = self.ledger.last(ALIAS_DONE, to=version)
        assert moved is not None  # it is where ``mark`` has the version from
        bar: Record = {"model": self.model, "version": version, "model_digest": moved["model_digest"]}
        self.ledger.append(BARRED, **bar, who=self.who, why="it was deleted from MLflow", run_id="reconcile")

    def _alias_or_endpoint(self, last: Record, done: Record, champion: ModelVersion) -> Difference | None:
        """:param done: how ``champion``, the one of record, became so."""
        named, endpoint, digest = self.alias.named(), done["endpoint"], self._digest(done, champion)
        served = self._served(endpoint)
        if named == champion.version and served == digest:
            if champion_after(last) == named:
                return None
            told = f"The ledger last saw the alias at version {champion_after(last)}, and it names {named} again."
            return Difference(told, "The ledger says so now.", self.alias.settle)
        by_hand = self.registry.find_version(self._uri(named)) if named else None
        if named != champion.version and served == digest:
            return Difference(
                f"The alias names {_version(named)}, which somebody set by hand; version {champion.version} was "
                f"champion and serves on {endpoint!r}.",
                f"The alias names version {champion.version} again.",
                lambda: self._finish({**facts_of(done), "from": named, **self._repair("the alias was moved by hand")}),
            )
        if by_hand is not None and named != champion.version and served == by_hand.tags.get(MODEL_TAG):
            return Difference(
                f"Version {named} was made champion by hand, and it serves on {endpoint!r}; the ledger has version "
                f"{champion.version}.",
                f"Version {named} is the champion of record now.",
                lambda: self._adopt(done, by_hand),
            )
        return Difference(
            f"The endpoint {endpoint!r} serves {self._spoken(served)}, but champion is version {champion.version}.",
            f"The endpoint serves version {champion.version} again.",
            lambda: self._deploy(done, champion),
        )

    def _details(self, done: Record, champion: ModelVersion) -> list[Difference]:
        """What is wrong beside an alias and an endpoint that agree."""
        found = [gone] if (gone := self._mark_gone()) else []
        if not {RELEASE_TAG, ENDPOINT_TAG} <= champion.tags.keys():
            tags = {RELEASE_TAG: done["release"], ENDPOINT_TAG: done["endpoint"]}
            found.append(
                Difference(
                    f"Version {champion.version} is champion, and its tags do not say with which release and where.",
                    "They do now.",
                    lambda: self.registry.tag_version(champion, tags),
                )
            )
        wanted = before(self.ledger, done)
        if wanted is not None and self.registry.find_version(self._uri(wanted)) is None:
            wanted = None
        known = self.registry.find_version(f"models:/{self.model}@{PREVIOUS}")
        previous = known.version if known else None
        if previous != wanted:
            found.append(
                Difference(
                    f"The alias {PREVIOUS!r} names {_version(previous)}; the champion before was {_version(wanted)}.",
                    f"It names {_version(wanted)} now.",
                    lambda: self.alias.set_previous(wanted),
                )
            )
        return found

    # -- what puts it right ----------------------------------------------------------------------------------------

    def _finish(self, record: Record) -> None:
        """Move the alias to a version that serves."""
        facts = {name: record[name] for name in Move.__dataclass_fields__ if name in record}
        version = self.registry.find_version(self._uri(record["to"]))
        if version is None:
            raise RuntimeError(f"{self._uri(record['to'])} was deleted meanwhile. Nothing was moved.")
        move = Move(**facts)
        self.alias.move(version, record["from"], move, lambda: self._require_served(move))

    def _adopt(self, done: Record, version: ModelVersion) -> None:
        """Take a version for champion that somebody made it by hand, on the endpoint as well."""
        state = self.endpoints.describe(done["endpoint"])
        self.alias.settle()
        self.alias.finish(
            {
                **facts_of(done),
                **{"from": done["to"], "to": version.version},
                "release": state.digest if state and state.digest else done["release"],
                "model_digest": version.tags[MODEL_TAG],
                **self._repair("it was made champion by hand, and serves"),
            }
        )

    def _deploy(self, done: Record, champion: ModelVersion) -> None:
        """:raises DeploymentFailed: the release is gone or does not start; what served serves still."""
        digest = champion.tags.get(RELEASE_TAG) or done["release"]
        release = self.ledger.store.uri(f"releases/{digest}")
        self.endpoints.deploy(done["endpoint"], release, digest, DEPLOY_TIMEOUT, self.log, owner=self.model)

    def _require_served(self, move: Move) -> None:
        if self._served(move.endpoint) != move.model_digest:
            raise RuntimeError(f"Endpoint {move.endpoint!r} serves something else now. The alias was not moved.")

    def _repair(self, why: str) -> Record:
        run = {"dag_id": "ratchet reconcile", "run_id": self.ledger.now().isoformat(timespec="milliseconds")}
        return {"kind": REPAIR, "verdict": None, "who": self.who, "why": why, "raises_mark": False, **run}

    # -- what there is ---------------------------------------------------------------------------------------------

    def _served(self, endpoint: str) -> str | None:
        """:return: digest of the model that the endpoint itself reports; None: it does not serve."""
        state = self.endpoints.describe(endpoint)
        if state is None or state.status != "serving" or state.url is None:
            return None
        return self.endpoints.served_model(state.url)

    def _spoken(self, digest: str | None) -> str:
        if digest is None:
            return "nothing"
        known = self.ledger.last(ALIAS_DONE, model_digest=digest)
        return f"version {known['to']}" if known else f"another model ({digest[:12]})"

    def _digest(self, done: Record, version: ModelVersion) -> str | None:
        return done.get("model_digest") or version.tags.get(MODEL_TAG)

    def _uri(self, version: str) -> str:
        return f"models:/{self.model}/{version}"


def _version(version: str | None) -> str:
    return f"version {version}" if version else "no version"
