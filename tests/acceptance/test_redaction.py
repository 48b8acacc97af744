"""What is redacted reaches no target that may not have it, through the whole gateway; what is kept stays whole."""

import json
from pathlib import Path

from shared import providers
from tests.acceptance.gateway import SECRET, TRUUST_TOKEN, Gateway, target
from tests.acceptance.sink import Sink
from tests.waiting import wait_for

TRUUST = providers.samples("truust")["EscrowPublished"]
RECEIVED = providers.samples("trustshare")["payment_received"]
CARD_DETAILS = (b"407980******7842", b"a1b2c3d4e5f6", b"3111")
OPEN = """
[[sources]]
name = "open"
provider = "truust"
keep_card_details = true
path_tokens = ["open-token-0123456789"]
"""
RETRY = "{ initial = '0.2s', factor = 1.0, max = '0.2s', attempts = 3, jitter = 0.0 }"


def test_card_details_reach_a_target_only_from_a_source_that_keeps_them(folder: Path, sink: Sink) -> None:
    raw = target("raw", sink.port, format='"raw"')
    with Gateway(folder, OPEN + target("all", sink.port) + raw) as gateway:
        closed = gateway.request("POST", f"/webhooks/truust/{TRUUST_TOKEN}", TRUUST).id
        open_ = gateway.request("POST", "/webhooks/open/open-token-0123456789", TRUUST).id
        for name in ("all", "raw"):
            bodies = {delivery.id: delivery.body for delivery in sink.wait_for(name, 2)}
            assert TRUUST in bodies[open_], "the untouched bytes"
            assert not [value for value in CARD_DETAILS if value in bodies[closed]]
            assert b"Ds_AuthorisationCode" in bodies[closed], "what is no card detail is there"
        events = {delivery.id: delivery.event for delivery in sink.of("all")}
        assert "redacted" not in events[open_]["data"]
        assert "**.Ds_Merchant_Identifier" in events[closed]["data"]["redacted"]
        for delivery in (*sink.of("all"), *sink.of("raw")):
            delivery.verify(SECRET)
        shown = gateway.command("events", closed, "--payload").stdout
    assert TRUUST.decode() in shown, "an operator sees what is kept"
    assert "redacted" not in shown


def test_a_target_s_paths_are_its_own_and_each_attempt_sends_the_same(folder: Path, sink: Sink) -> None:
    sink.answers["some"] = lambda _, before: 503 if before == 0 else 200
    some = target("some", sink.port, redact='["buyer", "to", "paymentToken"]', retry=RETRY)
    with Gateway(folder, target("all", sink.port) + some) as gateway:
        id = gateway.post("trustshare", RECEIVED).id
        [whole] = sink.wait_for("all", 1)
        attempts = sink.wait_for("some", 2)
        wait_for(lambda: gateway.redis.zcard("hr:open") == 0, "every delivery to be done")

        gateway.config.write_text(gateway.config.read_text().replace('"buyer", ', ""))
        wait_for(lambda: len(gateway.lines("configuration reloaded")) == 2, "ingress and worker to reload")
        gateway.command("replay", id, "--to", "some", "--yes")
        again = sink.wait_for("some", 3)[2]
    assert b'"original":' + RECEIVED + b"}" in whole.body
    assert "redacted" not in whole.event["data"]
    assert attempts[0].body == attempts[1].body
    for delivery in (*attempts, again):
        delivery.verify(SECRET)
        assert b"seller@example.com" not in delivery.body
        left = {"from", "to", "paymentToken"} - {*delivery.event["data"]["original"]}
        assert delivery.event["data"]["original"] == {
            name: value for name, value in json.loads(RECEIVED).items() if name not in left
        }
    for delivery in attempts:
        assert b"buyer@example.com" not in delivery.body
        assert delivery.event["data"]["parties"] == {}
        assert delivery.event["data"]["redacted"] == ["buyer", "to", "paymentToken"]
    assert again.event["data"]["parties"] == {"buyer": "buyer@example.com"}, "as the configuration now says"
    assert again.event["data"]["redacted"] == ["to", "paymentToken"]
