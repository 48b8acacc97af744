"""The providers, played against the real gateway: every scenario goes through, once, canonical and signed."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shared.providers import simulations
from tests.acceptance.gateway import HEADRACE, SECRET, SOURCES, Gateway, clean_env, free_port, target
from tests.acceptance.sink import Delivery, Sink
from tests.waiting import wait_for

ALL_SOURCES = f"""{SOURCES}
[[sources]]
name = "orders"
provider = "standard-webhooks"
secrets = ["{SECRET}"]
transaction = "body.data.transaction_id"
payment = "body.data.payment_id"
amount_minor = "body.data.money.amount_minor"
currency = "body.data.money.currency"
"""
EVENTS = {
    # A handshake is nobody's business but ours.
    provider: [
        step.event for scenario in play.scenarios for step in scenario.steps if step.event != "handshake"
    ]
    for provider, play in simulations().items()
}


def simulate(gateway: Gateway, provider: str, *arguments: str) -> dict[str, Any]:
    done = gateway.command("simulate", provider, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["unexpected"], summary["unanswered"]) == (0, 0)
    return summary


def settled(gateway: Gateway) -> None:
    """Wait until nothing waits in an inbox or for a target."""

    def idle() -> bool:
        inboxes = sum(gateway.redis.xlen(key) for key in gateway.redis.keys("hr:inbox:*"))
        return not inboxes and not gateway.redis.zcard("hr:open")

    wait_for(idle, "everything to be admitted and delivered", within_s=60)


def test_every_scenario_of_every_provider_is_delivered_once(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port), sources=ALL_SOURCES) as gateway:
        for provider, events in EVENTS.items():
            summary = simulate(gateway, provider)
            handshakes = 2 if provider == "trustshare" else 0
            assert summary["answers"] == {"200": len(events) + handshakes}
            assert summary["latencies_ms"]["p50"] <= summary["latencies_ms"]["p99"]
        settled(gateway)
        assert gateway.redis.zcard("hr:quarantine") == 0
        assert gateway.redis.zcard("hr:duplicates") == 0
    deliveries = sink.of("all")
    assert max(sink.counts("all").values()) == 1
    arrived = Counter(delivery.event["data"]["provider"] for delivery in deliveries)
    assert arrived == {provider: len(events) for provider, events in EVENTS.items()}
    for delivery in deliveries:
        delivery.verify(SECRET)  # and the fixture checks each against the schema
    types = Counter(delivery.event["type"] for delivery in deliveries)
    assert types["provider.unknown"] == 1, "trustshare's newer API"
    by_provider = {(d.event["data"]["provider"], d.event["type"]) for d in deliveries}
    assert ("standard-webhooks", "subscription.renewed") in by_provider


def test_what_is_sent_again_makes_no_second_delivery(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port), sources=ALL_SOURCES) as gateway:
        copies = 0
        for provider in EVENTS:
            options = ("--duplicates", "0.5", "--count", "2", "--concurrency", "4", "--seed", "5")
            summary = simulate(gateway, provider, *options)
            assert set(summary["answers"]) == {"200"}
            copies += summary["copies"]
        assert copies > 100
        settled(gateway)
        assert gateway.redis.zcard("hr:quarantine") == 0
    assert max(sink.counts("all").values()) == 1
    assert len(sink.of("all")) == 2 * sum(len(events) for events in EVENTS.values())


def test_what_is_corrupt_ends_in_quarantine_or_is_refused(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port), sources=ALL_SOURCES) as gateway:
        sound = refused = 0
        for provider in ("trustap", "truust", "trustist", "standard-webhooks"):
            options = ("--corrupt", "0.3", "--shuffle", "--seed", "3", "--rate", "500")
            summary = simulate(gateway, provider, *options)
            assert set(summary["answers"]) == {
                "200",
                "404" if provider[:6] in {"truust", "trusti"} else "401",
            }
            refused += sum(count for status, count in summary["answers"].items() if status != "200")
            sound += summary["requests"] - summary["corrupt"]
            assert summary["corrupt"] > 0
        settled(gateway)
        held = gateway.redis.zcard("hr:quarantine")
        total = sum(len(EVENTS[name]) for name in ("trustap", "truust", "trustist", "standard-webhooks"))
        assert (held > 0, refused > 0, sound + held + refused) == (True, True, total)
    assert len(sink.of("all")) == len(sink.counts("all")) == sound


CHAINED = """
[[sources]]
name = "upstream-{format}"
provider = "standard-webhooks"
secrets = ["{secret}"]
provider_event = "body.data.provider_event"
transaction = "body.data.transaction_id"
payment = "body.data.payment_id"
amount_minor = "body.data.money.amount_minor"
currency = "body.data.money.currency"
status = "body.data.status"
time = "{time}"
"""


def test_one_headrace_feeds_another_without_code(folder: Path, sink: Sink) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    sources = "".join(
        CHAINED.format(format=format, secret=SECRET, time=time)
        for format, time in (("standard", "body.data.occurred_at"), ("cloudevents", "body.time"))
    )
    second = Gateway(folder / "b", target("second", sink.port), sources=sources)
    upstream = "".join(
        target(
            f"to-{format}",
            second.port,
            url=f'"http://127.0.0.1:{second.port}/webhooks/upstream-{format}"',
            format=f'"{format}"',
        )
        for format in ("standard", "cloudevents")
    )
    with second, Gateway(folder / "a", target("first", sink.port) + upstream, sources=ALL_SOURCES) as first:
        for provider, scenario in (
            ("trustshare", "disputed-twice"),
            ("trustap", "online-complained"),
            ("trustist", "failed-and-retried"),
            ("orders", "types-of-its-own"),
        ):
            simulate(first, provider, "--scenario", scenario, "--duplicates", "0.3")
        settled(first)
        settled(second)
        assert second.redis.zcard("hr:quarantine") == 0
    expected = {delivery.id: essence(delivery) for delivery in sink.of("first")}
    assert len(expected) == 8 + 7 + 3 + 2
    for format in ("standard", "cloudevents"):
        arrived = [d for d in sink.of("second") if d.event["source"] == f"/sources/upstream-{format}"]
        assert Counter(map(essence, arrived)) == Counter(expected.values())
        if format == "cloudevents":
            originals = {d.event["data"]["original"]["id"] for d in arrived}
            assert originals == set(expected), "the first one's ids, and its whole event, are kept"


def essence(delivery: Delivery) -> tuple[object, ...]:
    event, data = delivery.event, delivery.event["data"]
    money = data["money"] and (data["money"]["amount_minor"], data["money"]["currency"])
    names = ("provider_event", "transaction_id", "payment_id", "status")
    return (event["type"], event.get("time"), money, *(data[name] for name in names))


def refusal(*arguments: str, folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [HEADRACE, "simulate", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_env(),
        check=False,
    )
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.returncode, done.stderr


def test_what_cannot_be_played_is_one_line(folder: Path) -> None:
    (folder / "headrace.toml").write_text(f"ingress.port = {free_port()}\n{SOURCES}")
    for arguments, code, words in (
        ((), 2, "say which provider or source"),
        (("paypal",), 2, "'paypal' is neither a source nor the provider of one"),
        (("trustap", "--scenario", "x"), 2, "trustap has no scenario 'x'; it has: "),
        (("trustap", "--url", "127.0.0.1"), 2, "is not a URL"),
        (("trustap", "--duplicates", "2"), 2, "not in the range"),
        (("trustap",), 1, "no ingress answers at http://127.0.0.1:"),
        (("--list", "paypal"), 2, "no provider with scenarios"),
    ):
        got = refusal(*arguments, folder=folder)
        assert (arguments, got[0], words in got[1]) == (arguments, code, True), got[1]


def test_another_answer_than_expected_is_shown_and_fails(folder: Path, sink: Sink) -> None:
    with Gateway(folder, target("all", sink.port)) as gateway:
        other = folder / "other.toml"
        other.write_text(gateway.config.read_text().replace("trustap-password", "a-wrong-password"))
        argv = [HEADRACE, "simulate", "trustap", "--scenario", "online-refused", "--config", str(other)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=clean_env(), check=False)
    assert done.returncode == 1
    assert "2 × 401" in done.stdout
    assert "basic_tx.joined (sound): answered 401" in done.stdout


@pytest.mark.parametrize("provider", sorted(simulations()))
def test_the_list_describes_every_scenario_without_a_configuration(provider: str, folder: Path) -> None:
    done = subprocess.run(
        [HEADRACE, "simulate", "--list", provider],
        cwd=folder, capture_output=True, text=True, timeout=30, env=clean_env(), check=True,
    )  # fmt: skip
    for scenario in simulations()[provider].scenarios:
        assert scenario.name in done.stdout
