"""Fault case 49: events that a dead letter holds are listed, and let go by `continue` and by removal."""

import json
from pathlib import Path

import pytest

from tests.acceptance.gateway import target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched
from tests.waiting import wait_for

KEYS = {"retry": "{ attempts = 1 }", "breaker": "{ failures = 1000 }", "ordering": '"transaction"'}


def body(transaction: str, payment: int) -> bytes:
    fields = {"type": "payment_received", "token": transaction, "paymentToken": f"{transaction}-{payment}"}
    return json.dumps(fields | {"amount": 100, "currency": "gbp"}).encode()


class HeldGateway(Watched):
    """A gateway whose ordered target has refused the first of three events of one transaction."""

    def __init__(self, folder: Path, sink: Sink) -> None:
        self.hold = target("one", sink.port, on_dead='"hold"', **KEYS)
        super().__init__(folder, self.hold + target("two", sink.port), sink)
        sink.answers["one"] = lambda _, before: 200 if before else 500
        self.ids: list[str] = []

    def begin(self) -> None:
        """Have the first given up and the others held."""
        self.ids = [self.post("trustshare", body("t", number)).id for number in range(3)]
        wait_for(lambda: self.redis.zcard("hr:dead:one") == 1, "a dead letter", within_s=60)
        self.sink.wait_for("two", 3, within_s=60)
        self.sink.answers["one"] = lambda *_: 200

    def configure(self, text: str) -> None:
        """Put another table in the target's place, and wait until both processes have taken it up."""
        self.config.write_text(self.config.read_text().replace(self.hold, text))
        wait_for(lambda: len(self.lines("configuration reloaded")) == 2, "the reload", within_s=60)


@pytest.mark.case(n=49)
def test_held_events_are_listed_with_what_they_wait_for_and_go_on_with_its_replay(
    folder: Path, sink: Sink
) -> None:
    with HeldGateway(folder, sink) as gateway:
        gateway.begin()
        first, second, third = gateway.ids
        [row, _] = gateway.json("deliveries", third)["deliveries"]
        assert row["state"] == "waiting"
        why = row["why"]
        assert (why["word"], why["behind"], why["behind_state"], why["transaction"]) == (
            *("held", first, "dead", "t"),
        )
        assert f"held: behind {first}" in " ".join(gateway.command("deliveries", third).stdout.split())
        listed = gateway.json("events", "--state", "held")["events"]
        assert [event["id"] for event in listed] == [third, second]
        assert listed[0]["held"] == {"one": first}
        [one, two] = gateway.json("targets")["targets"]
        assert (one["held"], two["held"]) == (2, 0)
        assert "2 held" in gateway.command("targets").stdout
        assert gateway.command("replay", first, "--to", "one", "--yes").returncode == 0
        wait_for(lambda: len(sink.of("one")) == 4, "all three in order", within_s=60)
        assert [delivery.id for delivery in sink.of("one")] == [first, first, second, third]
        assert gateway.json("events", "--state", "held")["events"] == []


@pytest.mark.case(n=49)
@pytest.mark.parametrize("keys", [{"on_dead": '"continue"'}, {"ordering": '"none"', "on_dead": '"hold"'}])
def test_a_reload_that_holds_no_more_lets_held_events_go(
    keys: dict[str, str], folder: Path, sink: Sink
) -> None:
    with HeldGateway(folder, sink) as gateway:
        gateway.begin()
        gateway.redis.delete("hr:held:one")  # a version before this one kept no record of them
        gateway.configure(target("one", sink.port, **(KEYS | keys)))
        gateway.kill("workers")  # the next one looks for what earlier versions left
        wait_for(lambda: len(sink.of("one")) == 3, "the two that were held", within_s=60)
        assert [delivery.id for delivery in sink.of("one")] == gateway.ids


@pytest.mark.case(n=49)
def test_removing_a_target_makes_dead_letters_of_what_is_held(folder: Path, sink: Sink) -> None:
    with HeldGateway(folder, sink) as gateway:
        gateway.begin()
        gateway.everyone = ["two"]
        gateway.configure("")
        done = gateway.command("targets", "remove", "one", "--yes")
        assert (done.returncode, "2 dead letters" in done.stdout) == (0, True), done.stderr + done.stdout
        assert gateway.redis.zcard("hr:dead:one") == 3
        [row, _] = gateway.json("deliveries", gateway.ids[2])["deliveries"]
        assert (row["state"], row["why"]["word"]) == ("dead", "removed")
        nobody = gateway.command("targets", "remove", "nosuch", "--yes")
        assert nobody.returncode != 0
        assert "nosuch" in nobody.stderr
        assert "two" in nobody.stderr
