"""Targets that go wrong, through the whole gateway: each costs its own attempts, and no other target its pace."""

import datetime
import ssl
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trustme
from standardwebhooks.webhooks import WebhookVerificationError

from shared.delivery.signing import new_secret
from tests.acceptance.gateway import SECRET, SOURCES, TRUSTSHARE_SECRET, target
from tests.acceptance.sink import Sink
from tests.faults.watched import Watched, body
from tests.waiting import wait_for

from . import misbehaving
from .misbehaving import Misbehaving, answers

EVENTS = 3
TIMEOUT_S = 1.0
IMPATIENT = {
    "timeout": f'"{TIMEOUT_S}s"',
    "retry": '{ initial = "0.3s", factor = 1.0, max = "0.3s", attempts = 2, jitter = 0.0 }',
}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


class Exchange:
    """What came of a few events that went to every kind of bad target, and to a good one."""

    def __init__(self) -> None:
        self.attempts: dict[str, list[dict[str, Any]]] = {}
        self.bad: dict[str, Misbehaving] = {}
        self.good_at_s: list[float] = []
        self.whole_s = 0.0

    def errors(self, name: str) -> set[str]:
        """The kinds of error of a target's attempts."""
        assert len(self.attempts[name]) == EVENTS * 2
        return {str(attempt["error"]).partition(":")[0] for attempt in self.attempts[name]}

    def statuses(self, name: str) -> set[int | None]:
        return {attempt["status"] for attempt in self.attempts[name]}

    def durations_s(self, name: str) -> list[float]:
        return [attempt["duration_ms"] / 1000 for attempt in self.attempts[name]]


def tls(*names: str, ca: trustme.CA, **validity: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **validity).configure_cert(context)
    return context


def old_tls(ca: trustme.CA) -> ssl.SSLContext:
    context = tls("127.0.0.1", ca=ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.fixture(scope="module")
def exchange() -> Iterator[Exchange]:
    """Run one gateway with all of these targets, send a few events, and wait until each is settled."""
    found = Exchange()
    ours, foreign = trustme.CA(), trustme.CA()
    yesterday = {"not_before": PAST, "not_after": PAST + datetime.timedelta(days=1)}
    bad = found.bad = {
        "hangs": Misbehaving(misbehaving.hangs),
        "never-reads": Misbehaving(misbehaving.never_reads),
        "drips-headers": Misbehaving(misbehaving.drips_headers),
        "drips-body": Misbehaving(misbehaving.drips_body),
        "endless": Misbehaving(misbehaving.endless),
        "bomb": Misbehaving(misbehaving.bomb),
        "redirects": Misbehaving(
            answers(b"HTTP/1.1 302 x\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
        ),
        "loopback": Misbehaving(answers(OK)),
        "named": Misbehaving(answers(OK)),
        "expired": Misbehaving(answers(OK), tls("127.0.0.1", ca=ours, **yesterday)),
        "wrong-host": Misbehaving(answers(OK), tls("a.test", ca=ours)),
        "self-signed": Misbehaving(answers(OK), tls("127.0.0.1", ca=foreign)),
        "old-tls": Misbehaving(answers(OK), old_tls(ours)),
    }
    env_proxy = bad["env-proxy"] = Misbehaving(answers(OK))
    sink = Sink()
    with TemporaryDirectory(prefix="hr-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        ours.cert_pem.write_to_path(str(folder / "ca.pem"))
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.setenv(variable, f"http://127.0.0.1:{env_proxy.port}")
        special = {
            "loopback": {"allow_private": "false"},
            "named": {"allow_private": "false", "url": f'"http://localhost:{bad["named"].port}/"'},
            **{
                each: {"url": f'"https://127.0.0.1:{bad[each].port}/"', "ca_file": '"ca.pem"'}
                for each in ("expired", "wrong-host", "self-signed", "old-tls")
            },
        }
        names = [each for each in bad if each != "env-proxy"]
        tables = [target(each, bad[each].port, **IMPATIENT, **special.get(each, {})) for each in names]
        gateway = Watched(folder, "".join([*tables, target("good", sink.port)]), sink)
        with gateway:
            started = time.monotonic()
            ids = [gateway.post("trustshare", body()).id for _ in range(EVENTS)]
            found.good_at_s = [each.at - started for each in sink.wait_for("good", EVENTS)]

            wait_for(
                lambda: all(_settled(gateway, id) for id in ids), "every delivery to be settled", within_s=40
            )
            found.whole_s = time.monotonic() - started
            for id in ids:
                for row in gateway.json("deliveries", id)["deliveries"]:
                    found.attempts.setdefault(row["target"], []).extend(row["attempts"])
    sink.close()
    yield found
    for each in bad.values():
        each.close()


def _settled(gateway: Watched, id: str) -> bool:
    rows = gateway.json("deliveries", id)["deliveries"]
    return bool(rows) and all(row["state"] in ("done", "dead") for row in rows)


@pytest.mark.case(n=17)
@pytest.mark.parametrize("name", ["hangs", "drips-headers", "drips-body", "never-reads"])
def test_17_a_slow_target_costs_its_own_attempts_by_the_clock(exchange: Exchange, name: str) -> None:
    """FAULTS 17: hangs, drips headers, drips body, never reads: a wall-clock deadline, a failed attempt."""
    assert exchange.errors(name) == {"timeout"}
    assert all(TIMEOUT_S * 0.9 <= each < TIMEOUT_S * 3 for each in exchange.durations_s(name))


@pytest.mark.case(n=17)
def test_17_other_targets_keep_their_pace(exchange: Exchange) -> None:
    """FAULTS 17: the good target had all events before the slow ones had used up one deadline each."""
    assert len(exchange.good_at_s) == EVENTS
    assert max(exchange.good_at_s) < exchange.whole_s / 2
    assert exchange.statuses("good") == {200}


@pytest.mark.case(n=18)
def test_18_an_endless_answer_is_cut_and_its_status_decides(exchange: Exchange) -> None:
    """FAULTS 18: a target sends 10 GB."""
    assert exchange.statuses("endless") == {200}
    assert len(exchange.attempts["endless"]) == EVENTS, "one attempt each"


@pytest.mark.case(n=18)
def test_18_nothing_is_decoded(exchange: Exchange) -> None:
    """FAULTS 18: what claims to be gzip, and a bomb of it: the status decides."""
    assert exchange.statuses("bomb") == {500}
    assert exchange.errors("bomb") == {""}


@pytest.mark.case(n=19)
def test_19_a_redirect_is_a_failed_attempt(exchange: Exchange) -> None:
    """FAULTS 19: 3xx to 169.254.169.254 is not followed."""
    assert exchange.statuses("redirects") == {302}


@pytest.mark.case(n=20)
@pytest.mark.parametrize("name", ["loopback", "named"])
def test_20_an_address_that_is_not_allowed_is_never_dialled(exchange: Exchange, name: str) -> None:
    """FAULTS 20: a private literal, and a name that resolves to one. (Rebinding: test_egress_names.py.)"""
    assert exchange.errors(name) == {"address-refused"}
    assert exchange.bad[name].connections == 0


@pytest.mark.case(n=21)
def test_21_proxies_of_the_environment_are_ignored(exchange: Exchange) -> None:
    """FAULTS 21: HTTP_PROXY. (The forms of addresses: test_endpoint.py, test_addresses.py.)"""
    assert exchange.bad["env-proxy"].connections == 0


@pytest.mark.case(n=22)
@pytest.mark.parametrize("name", ["expired", "wrong-host", "self-signed", "old-tls"])
def test_22_tls_that_proves_nothing_is_a_failed_attempt(exchange: Exchange, name: str) -> None:
    """FAULTS 22: expired, wrong host, self-signed, old protocol; no fall-back."""
    assert exchange.errors(name) == {"tls"}


HOSTILE = 'a\r\nx-injected: 1\r\n\r\n\x00\x1b[2J\u2028é"%'


@pytest.mark.case(n=34)
def test_34_no_field_begins_a_line_in_a_header_or_a_log(folder: Path, sink: Sink) -> None:
    """FAULTS 34: CR, LF and NUL in a provider's fields."""
    forms = ("cloudevents", "cloudevents-binary", "standard", "raw")
    with Watched(
        folder, "".join(target(form, sink.port, format=f'"{form}"') for form in forms), sink
    ) as gateway:
        hostile = body(token=HOSTILE, comment=HOSTILE)
        assert gateway.post("trustshare", hostile).status == 200
        odd = {"x-trustshare-secret": TRUSTSHARE_SECRET, "content-type": 'a/b; x="\x01é"'}
        assert gateway.request("POST", "/webhooks/trustshare", body(), odd).status in (200, 400)
        id = gateway.post("trustshare", body()).id
        for form in forms:
            wait_for(lambda form=form: id in sink.counts(form), f"the last event at {form}")  # type: ignore[misc]
            for delivery in sink.of(form):
                assert "x-injected" not in delivery.headers
                delivery.verify(SECRET)
        listing = gateway.command("events").stdout + gateway.command("quarantine").stdout
        assert "\x1b[2J" not in listing
        assert "x-injected" not in {line[:10] for line in listing.splitlines()}
    lines = gateway.log.read_text(errors="replace").splitlines()
    assert not any(line.lstrip().startswith("x-injected") for line in lines)
    assert "\x1b[2J" not in gateway.log.read_text(errors="replace")


@pytest.mark.case(n=35)
def test_35_a_sources_secret_rotates_without_a_401(folder: Path, sink: Sink) -> None:
    """FAULTS 35: old and new for a while, then only new: the old is refused, and nothing is lost."""
    new = "trustshare-secret-of-tomorrow"

    def statuses(gateway: Watched) -> list[int]:
        return [
            gateway.request("POST", "/webhooks/trustshare", body(), {"x-trustshare-secret": secret}).status
            for secret in (TRUSTSHARE_SECRET, new)
        ]

    accepted = 0
    for secrets, expected in (
        (f'"{TRUSTSHARE_SECRET}"', [200, 401]),
        (f'"{new}", "{TRUSTSHARE_SECRET}"', [200, 200]),
        (f'"{new}"', [401, 200]),
    ):
        sources = SOURCES.replace(f'"{TRUSTSHARE_SECRET}"', secrets)
        with Watched(folder, target("all", sink.port), sink, sources=sources) as gateway:
            assert statuses(gateway) == expected
            accepted += expected.count(200)
            sink.wait_for("all", accepted)


@pytest.mark.case(n=35)
def test_35_a_targets_secret_rotates_without_a_bad_signature(folder: Path, sink: Sink) -> None:
    """FAULTS 35: while both secrets are configured, a receiver may hold either."""
    new = new_secret()
    for number, (secrets, good, bad) in enumerate(
        [(f'["{new}", "{SECRET}"]', [new, SECRET], []), (f'"{new}"', [new], [SECRET])]
    ):
        with Watched(folder, target("all", sink.port, secret=secrets), sink) as gateway:
            gateway.post("trustshare", body())
            delivery = sink.wait_for("all", number + 1)[number]
        for secret in good:
            delivery.verify(secret)
        for secret in bad:
            with pytest.raises(WebhookVerificationError):
                delivery.verify(secret)
