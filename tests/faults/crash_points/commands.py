"""The plays of commands: they are killed, said again, and then what they sent is delivered."""

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shared.store.context import of_source
from shared.store.keys import Keys
from tests.faults.crash_points import scenario, state
from tests.faults.crash_points.plays import Broken, check, in_order, quiet, worker
from tests.faults.crash_points.scenario import ORDERS, REMOVED, SOURCES, Sent
from tests.faults.crash_points.stage import PATIENCE_S, Stage

KEYS = Keys()

LATER_MS = 4_000_000_000_000
"""When what waits for its next attempt is due: in many years."""

COMMANDS = ("replay", "replay-since", "admit", "admit-all", "enable", "remove", "retry")


class Commands:
    """Commands of `headrace`: killed, said again, and then what they sent is delivered."""

    def __init__(self, stage: Stage) -> None:
        """Play the worker's part once; each run begins where that ended."""
        worker(stage, [])
        self.saved = stage.save()
        self.before = now = state.read(stage.redis, SOURCES)
        self.receipts = [Sent("", b"", id) for id in {*now.events, *now.duplicates, *now.quarantined}]
        self._copy = min(id for id, copy in now.duplicates.items() if copy["of"] in now.events)
        self._argv = {
            "replay": ["replay", "--dead-letters", "failing"],
            "replay-since": ["replay", "--since", "1h", "--source", ORDERS],
            "admit": ["admit", self._copy],
            "admit-all": ["admit", "--all"],
            "enable": ["targets", "enable", "gone"],
            "remove": ["targets", "remove", REMOVED],
            "retry": ["retry", "--target", "failing", "--type", "*"],
        }

    def play(
        self, stage: Stage, name: str, kills: Sequence[str], *, cold: bool = False, record: Path | None = None
    ) -> int:
        """Play one of COMMANDS."""
        stage.begin(cold=cold)
        stage.restore(self.saved)
        stage.sink.answers = {"gone": lambda *_: 410}
        if name == "remove":
            scenario.wait_again(stage.server.url, REMOVED, self.before.dead[REMOVED])
        if name == "retry":
            failing = self.before.dead["failing"]
            scenario.wait_again(stage.server.url, "failing", failing)
            stage.redis.zadd(KEYS.due("failing"), dict.fromkeys(failing, LATER_MS))
        yes = [] if name == "enable" else ["--yes"]
        deaths = 0
        for kill in [*kills, None]:
            process = stage.start("headrace", *self._argv[name], *yes, kill=kill, record=record)
            code = process.ended(PATIENCE_S)
            check(stage, self.receipts, f"after the command, which ended with {code}")
            if code == 0:
                break
            if code != -signal.SIGKILL or kill is None:
                raise Broken(f"headrace {name} ended with {code}: {stage.tail()}")
            deaths += 1
        stage.work()
        now = check(stage, self.receipts, "in the end")
        sent = Counter((each.target, each.id) for each in stage.sink.deliveries)
        if sent != (wanted := self._wanted(name, now)):
            raise Broken(f"it sent {sent - wanted} too much, and {wanted - sent} too little")
        if name == "enable" and stage.redis.hexists(KEYS.target("gone"), "state"):
            raise Broken("an enabled target is not active")
        if name == "remove" and now.dead[REMOVED] != self.before.dead[REMOVED]:
            raise Broken(
                f"what waits for a removed target becomes dead letters, not only {now.dead[REMOVED]}"
            )
        in_order(stage)
        quiet(stage)
        return deaths

    def _wanted(self, name: str, now: state.State) -> Counter[tuple[str, str]]:
        """What the targets get, once each."""
        if name in {"replay", "retry"}:
            return Counter(("failing", id) for id in self.before.dead["failing"])
        if name in {"admit-all", "enable", "remove"}:
            return Counter()
        events = [self._copy] if name == "admit" else [id for id in now.events if of_source(id, ORDERS)]
        missing: dict[str, str] = {}
        return Counter(
            (target, id)
            for id in events
            for target in now.events.get(id, missing).get("targets", "nowhere").split(",")
            if target != "gone"  # it is disabled
        )
