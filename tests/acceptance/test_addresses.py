"""Who may send: address lists, with and without a trusted proxy."""

from pathlib import Path

from tests.acceptance.gateway import SOURCES, TRUSTSHARE_SECRET, Gateway, target
from tests.acceptance.sink import Sink

BODY = b'{"type":"dispute_raised","token":"t"}'


def test_an_address_list_holds_and_only_a_trusted_proxy_may_speak_for_another(
    folder: Path, sink: Sink
) -> None:
    listed = SOURCES.replace(
        'provider = "trustshare"', 'provider = "trustshare"\nallow_ips = ["203.0.113.0/24"]'
    )
    headers = {"x-trustshare-secret": TRUSTSHARE_SECRET}

    def statuses(gateway: Gateway) -> list[int]:
        return [
            gateway.request("POST", "/webhooks/trustshare", BODY, headers | extra).status
            for extra in (
                {},
                {"x-forwarded-for": "203.0.113.7"},
                {"x-forwarded-for": "203.0.113.7, 198.51.100.1"},
            )
        ]

    with Gateway(folder, target("all", sink.port), sources=listed) as gateway:
        assert statuses(gateway) == [401, 401, 401], "loopback is not on the list, and no proxy"
    trusting = 'ingress.trusted_proxies = ["127.0.0.1/32"]\n' + listed
    with Gateway(folder, target("all", sink.port), sources=trusting) as gateway:
        assert statuses(gateway) == [401, 200, 401]
