"""The configuration: what is accepted, what is refused and where, and that no secret shows."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from shared.cli.mistakes import warnings_of
from shared.config.check import parse_config
from shared.config.file import find_config, find_running_config, read_config
from shared.delivery.outgoing import endpoint_of, proxy_of
from shared.errors import ConfigError
from shared.process.folder import data_folder, socket_path
from shared.settings import (
    PREFIX,
    AdmissionSettings,
    Config,
    DedupeSettings,
    IngressSettings,
    RedisSettings,
    RetentionSettings,
)
from shared.store.address import parse_address
from shared.store.keys import Keys
from shared.values import Duration

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TARGET = f'[[targets]]\nname = "t"\nurl = "https://example.com/x"\nsecret = "{SECRET}"\n'

# The contract's own example, as it stands in the design.
EXAMPLE = (Path(__file__).parents[2] / "deploy" / "headrace.toml").read_text()
ENVIRON = {
    "TRUSTSHARE_SECRET": "trustshare-canary",
    "TRUSTAP_PASSWORD": "trustap-canary",
    "TRUUST_TOKEN": "truust-canary",
    "TRUSTIST_TOKEN": "trustist-canary",
    "LEDGER_SECRET": SECRET,
}


def parse(text: str) -> Config:
    return parse_config(tomllib.loads(text))


def test_the_documented_example_is_valid_and_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(EXAMPLE)
    config = read_config(path, ENVIRON)
    assert [source.provider for source in config.sources] == ["trustshare", "trustap", "truust", "trustist"]
    [target] = config.targets
    assert (target.timeout, target.retry.max, target.concurrency) == (15.0, 12 * 3600.0, 32)
    assert config.dedupe.window == 7 * 86400.0
    assert "canary" not in repr(config)
    assert SECRET not in repr(config)


def test_an_empty_configuration_has_the_documented_defaults() -> None:
    config = parse("")
    assert (config.ingress.port, config.ingress.max_body_bytes) == (8000, 262144)
    assert (config.redis.require_aof, config.redis.wait_replicas) == (True, 0)
    assert (config.retention.events, config.retention.dead_letters) == (7 * 86400.0, 30 * 86400.0)
    [target] = parse(TARGET).targets
    assert (target.events, target.sources, target.format, target.retry.attempts) == (
        ("*",),
        ("*",),
        "cloudevents",
        14,
    )
    assert target.allow_private == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('nonsense = 1', "nonsense"),
        ('redis.maxmemory = 1', "redis.maxmemory"),
        ('ingress.port = "8000"', "ingress.port"),
        ("ingress.port = 0", "ingress.port"),
        ("ingress.port = 70000", "ingress.port"),
        ("ingress.max_body_bytes = 0", "ingress.max_body_bytes"),
        ("ingress.max_body_bytes = 67108865", "ingress.max_body_bytes"),
        ("ingress.max_body_bytes = true", "ingress.max_body_bytes"),
        ("ingress.max_header_bytes = 0", "ingress.max_header_bytes"),
        ("ingress.max_header_bytes = 65536", "ingress.max_header_bytes"),
        ("ingress.max_header_count = 0", "ingress.max_header_count"),
        ("ingress.max_header_count = -100", "ingress.max_header_count"),
        ('ingress.header_timeout = "0s"', "ingress.header_timeout"),
        ("ingress.header_timeout = 10", "ingress.header_timeout"),
        ('ingress.header_timeout = "1h"', "ingress.header_timeout"),
        ('ingress.body_timeout = "-20s"', "ingress.body_timeout"),
        ('ingress.body_timeout = "601s"', "ingress.body_timeout"),
        ("ingress.max_requests_in_flight = 0", "ingress.max_requests_in_flight"),
        ("ingress.max_connections = 0", "ingress.max_connections"),
        ("ingress.max_inbox_events = 0", "ingress.max_inbox_events"),
        ("ingress.max_inbox_events = 1e6", "ingress.max_inbox_events"),
        ("ingress.max_inbox_bytes = -1", "ingress.max_inbox_bytes"),
        ("ingress.max_inbox_bytes = 262143", "ingress.max_inbox_bytes"),
        ("admission.max_json_bytes = 0", "admission.max_json_bytes"),
        ("admission.max_json_depth = 0", "admission.max_json_depth"),
        ("admission.max_json_depth = 513", "admission.max_json_depth"),
        ("admission.max_depth = 1", "admission.max_depth"),
        ("retention.max_answer_bytes = -1", "retention.max_answer_bytes"),
        ("retention.max_answer_bytes = 65537", "retention.max_answer_bytes"),
        ("retention.max_error_bytes = 0", "retention.max_error_bytes"),
        ('ingress.trusted_proxies = ["10.0.0.0/33"]', "ingress.trusted_proxies[0]"),
        ('ingress.public_url = "hooks.example.com"', "ingress.public_url"),
        ("redis.wait_replicas = -1", "redis.wait_replicas"),
        ('redis.prefix = ""', "redis.prefix"),
        ('redis.prefix = ":"', "redis.prefix"),
        ('redis.prefix = "hr"', "redis.prefix"),
        ('redis.prefix = "hr:event:"', "redis.prefix"),
        ('redis.prefix = "h r:"', "redis.prefix"),
        ('redis.prefix = "h*:"', "redis.prefix"),
        ('redis.prefix = "{hr}:"', "redis.prefix"),
        ('redis.prefix = "hr:\\n"', "redis.prefix"),
        (f'redis.prefix = "{"h" * 33}:"', "redis.prefix"),
        ('redis.url = "memcached://x"', "redis.url"),
        ('redis.url = "sentinel://a:1,b:2"', "redis.url"),
        ('redis.url = "redis://h/x"', "redis.url"),
        ('dedupe.window = 7', "dedupe.window"),
        ('retention.events = "7w"', "retention.events"),
        ("sources = 1", "sources"),
        ("[[sources]]", "sources[0].provider"),
        ('[[sources]]\nname = "a/b"\nprovider = "trustshare"\nsecrets = ["s"]', "sources[0].name"),
        ('[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = []', "sources[0].secrets"),
        ('[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = "s"', "sources[0].secrets"),
        ('[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = ["s"]\ncurrency = "GBP"', "sources[0].currency"),
        ('[[sources]]\nname = "a"\nprovider = "trustap"\nusername = ""\npasswords = ["p"]', "sources[0].username"),
        ('[[sources]]\nname = "a"\nprovider = "trustist"\npath_tokens = ["t"]\ncurrency = "XX"', "sources[0]"),
        (
            '[[sources]]\nname = "a"\nprovider = "truust"\npath_tokens = ["t"]\nallow_ips = ["x"]',
            "sources[0].allow_ips[0]",
        ),
        (TARGET.replace("https://example.com/x", "https://user:pw@example.com"), "targets[0].url"),
        (TARGET.replace("https://example.com/x", "http://2130706433/"), "targets[0].url"),
        (TARGET.replace(SECRET, ""), "targets[0].secret"),
        (TARGET + "events = []", "targets[0].events"),
        (TARGET + 'sources = [""]', "targets[0].sources"),
        (TARGET + 'filter = "nosuch == 1"', "targets[0].filter"),
        (TARGET + 'filter = "1 +"', "targets[0].filter"),
        (TARGET + "concurrency = 0", "targets[0].concurrency"),
        (TARGET + "retry.jitter = 2", "targets[0].retry.jitter"),
        (TARGET + 'retry.max = "1s"', "targets[0].retry.max"),
        (TARGET + "retry.factor = 0.5", "targets[0].retry.factor"),
        (TARGET + 'allow_private = ["10.0.0.1/8"]', "targets[0].allow_private"),
        (TARGET + 'allow_private = "yes"', "targets[0].allow_private"),
        (TARGET + 'headers = { "x-a" = "a\\r\\nb: c" }', "targets[0].headers.x-a"),
        (TARGET + 'headers = { "webhook-id" = "x" }', "targets[0].headers.webhook-id"),
        (TARGET + 'headers = { "x-a" = 1 }', "targets[0].headers"),
        (TARGET + 'headers = { "x-a" = "" }', "targets[0].headers"),
        (TARGET + "headers = 1", "targets[0].headers"),
        (TARGET + 'auth = "x"', "targets[0].auth"),
        (TARGET + 'redact = "from"', "targets[0].redact"),
        (TARGET + 'redact = ["from", ""]', "targets[0].redact[1]"),
        (TARGET + 'redact = ["items.0.name"]', "targets[0].redact[0]"),
        (TARGET + 'redact = ["items.*.name"]', "targets[0].redact[0]"),
        (TARGET + "redact = [1]", "targets[0].redact[0]"),
        ('[[sources]]\nname = "a"\nprovider = "trustshare"\nsecrets = ["s"]\nredact = ["a", ".b"]', "sources[0].redact[1]"),
        ('[[sources]]\nname = "a"\nprovider = "truust"\npath_tokens = ["t"]\nkeep_card_details = 1', "sources[0].keep_card_details"),
        (TARGET + "auth = {}", "targets[0].auth"),
        (TARGET + 'auth = { token = "x" }', "targets[0].auth.token"),
        (TARGET + 'auth = { bearer = "" }', "targets[0].auth.bearer"),
        (TARGET + 'auth = { bearer = "a b" }', "targets[0].auth.bearer"),
        (TARGET + 'auth = { username = "u" }', "targets[0].auth"),
        (TARGET + 'ca_file = "none.pem"', "targets[0].ca_file"),
        (TARGET + 'ca_file = ""', "targets[0].ca_file"),
        (TARGET + "client_cert = 1", "targets[0].client_cert"),
        (TARGET + 'client_cert = "none.pem"', "targets[0].client_cert"),
        (TARGET.replace("https:", "http:") + 'ca_file = "none.pem"', "targets[0].ca_file"),
        ('egress.proxy = ""', "egress.proxy"),
        ('egress.proxy = "http://proxy"', "egress.proxy"),
        ('egress.proxy = "https://proxy:3128"', "egress.proxy"),
        ("egress.proxy_resolves = true", "egress.proxy_resolves"),
        ('egress.proxies = "http://proxy:3128"', "egress.proxies"),
        (TARGET.replace('"t"', '""'), "targets[0].name"),
        (TARGET.replace("https://example.com/x", "http://localhost:8000/x"), "targets[0].url"),
        ('ingress.public_url = "https://Example.com"\n' + TARGET, "targets[0].url"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_key(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert error.value.path == path
    assert "\n" not in str(error.value)
    assert "`$" not in str(error.value), "msgspec's own notation"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TARGET + 'format = "cloud-events"', "targets[0].format: must be one of cloudevents, cloudevents-binary, "),
        (TARGET + 'ordering = "Transaction"', "targets[0].ordering: must be one of transaction, none"),
        (TARGET + 'fliter = "true"', "targets[0].fliter: is not a known key; did you mean 'filter'?"),
        (TARGET + 'retry.attemps = 1', "targets[0].retry.attemps: is not a known key; did you mean 'attempts'?"),
        (TARGET + 'auth.barer = "x"', "targets[0].auth.barer: is not a known key; did you mean 'bearer'?"),
        (TARGET + 'zzz = 1', "targets[0].zzz: is not a known key"),
        ("[ingres]", "ingres: is not a known key; did you mean 'ingress'?"),
        ("ingress.max_body = 1", "ingress.max_body: is not a known key; did you mean 'max_body_bytes'?"),
        ('[[sources]]\nname = "a"\nprovider = "trust-share"', "sources[0].provider: must be one of trustshare, "),
        ('[[sources]]\nname = "a"\nprovider = "trustap"\npassword = ["x"]', "; did you mean 'passwords'?"),
    ],
)  # fmt: skip
def test_a_mistake_names_what_may_stand_there_the_nearest_first(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (TARGET + TARGET.replace('"t"', '"ledger"') + 'filter = "1 +"', 'targets[1].filter (target "ledger"): does not'),
        (TARGET + 'format = "x"', 'targets[0].format (target "t"): must be one of'),
        (TARGET + 'headers = { "x-a" = "${MISSING}" }', 'targets[0].headers.x-a (target "t"): the environment variable'),
        ('[[sources]]\nname = "shop"\nprovider = "trustshare"\nsecrets = []', 'sources[0].secrets (source "shop"): is'),
        ('[[sources]]\nname = "a b"\nprovider = "x"', "sources[0].provider: must be one of"),
        ('[[sources]]\nname = 1\nprovider = "x"', "sources[0].provider: must be one of"),
        ('targets = ["${MISSING}"]', "targets[0]: the environment variable"),
        ('ingress.port = 0', "ingress.port: must be"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_target_or_source_beside_the_keys_path(
    text: str, where: str, tmp_path: Path
) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_config(path, {})
    assert str(error.value).startswith(f"{path}: {where}")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a" + ".a" * 3000 + " = 1",
        "ingress.port = " + "9" * 5000,
        'redis.url = "${file:a\\u0000b}"',
        'redis.url = "${file:.}"',
        TARGET + "retry.factor = nan",
        TARGET + "retry.factor = inf",
        TARGET + "retry.jitter = nan",
        TARGET + 'ca_file = "a\\u0000"',
        '"\\u001b[31m" = 1',
        TARGET + 'format = "${HUNTER}"',
        TARGET + 'timeout = "${HUNTER}"',
        '[[sources]]\nname = "a"\nprovider = "${HUNTER}"',
    ],
    ids=range(13),
)
def test_an_odd_file_is_one_printable_line_that_repeats_no_value(text: str, tmp_path: Path) -> None:
    """A running process reads the file again when it changes: whatever is in it, this is what comes of it."""
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_config(path, {"HUNTER": "hunter2"})
    assert str(error.value).isprintable()
    assert "hunter2" not in str(error.value)


def test_the_documented_example_shows_every_key_and_its_default() -> None:
    """What one reads there is what one gets without it; so no key is forgotten there either."""
    shown = tomllib.loads(EXAMPLE)
    for section, settings in (
        ("ingress", IngressSettings()),
        ("admission", AdmissionSettings()),
        ("dedupe", DedupeSettings()),
        ("retention", RetentionSettings()),
        ("redis", RedisSettings()),
    ):
        assert set(shown[section]) == set(settings.__struct_fields__), section
        if section == "ingress":
            shown[section].pop("public_url")  # it has none
        typed = getattr(parse_config({section: shown[section]}), section)
        assert typed == settings, section


def test_what_may_come_in_but_not_be_admitted_is_warned_of() -> None:
    [warning] = [
        text
        for text in warnings_of(parse("ingress.max_body_bytes = 2000000"))
        if text.startswith("ingress.max_body_bytes: ")
    ]
    assert "admission.max_json_bytes" in warning
    assert not any("max_body_bytes" in text for text in warnings_of(parse("")))


def test_a_path_that_begins_at_the_event_is_warned_of() -> None:
    one = TARGET + 'redact = ["original.from", "data.original.from", "data.from", "from"]'
    warned = [text for text in warnings_of(parse(one)) if "redact" in text]
    assert [text.partition(" is ")[0] for text in warned] == [
        "targets[0] (t): redact: 'original.from'",
        "targets[0] (t): redact: 'data.original.from'",
    ]


def test_a_list_of_secrets_signs_with_each_and_a_bad_one_is_named() -> None:
    both = TARGET.replace(f'"{SECRET}"', f'["{SECRET}", "whsec_{"QUFB" * 8}"]')
    assert len(parse(both).targets[0].secret) == 2
    with pytest.raises(ConfigError) as error:
        parse(TARGET.replace(f'"{SECRET}"', f'["{SECRET}", "hunter2"]'))
    assert (error.value.path, "hunter2" in str(error.value)) == ("targets[0].secret[1]", False)


def test_credentials_for_targets_and_proxies_show_nowhere() -> None:
    config = parse(
        'egress.proxy = "http://user:canary@proxy:3128"\n'
        + TARGET
        + 'headers = { "x-key" = "canary" }\nauth = { username = "canary", password = "canary" }'
    )
    [target] = config.targets
    assert "canary" not in f"{config!r} {proxy_of(config)!r} {endpoint_of(config, target)!r}"
    assert proxy_of(config) == endpoint_of(config, target).proxy


def test_certificate_files_lie_beside_the_configuration_and_are_read_at_the_start(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("a.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    path = tmp_path / "headrace.toml"
    path.write_text(TARGET + 'ca_file = "ca.pem"\nclient_cert = "own.pem"')
    [target] = read_config(path, {}).targets
    assert (target.ca_file, target.client_cert) == (str(tmp_path / "ca.pem"), str(tmp_path / "own.pem"))
    path.write_text(TARGET + 'client_cert = "ca.pem"')
    with pytest.raises(ConfigError, match=r"targets\[0\]\.client_cert"):
        read_config(path, {})


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    cert = trustme.CA().issue_cert("a.test")
    key = load_pem_private_key(cert.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    (tmp_path / "own.pem").write_bytes(locked + cert.cert_chain_pems[0].bytes())
    path = tmp_path / "headrace.toml"
    path.write_text(TARGET + 'client_cert = "own.pem"')
    with pytest.raises(ConfigError, match=r"client_cert .*: the key is encrypted"):
        read_config(path, {})


def test_variables_and_files_are_filled_in_anywhere_in_a_string(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    path = tmp_path / "headrace.toml"
    path.write_text(
        'redis.url = "redis://:${PW}@h:1/0"\n[[sources]]\nname="a"\nprovider="truust"\npath_tokens=["${file:token}"]'
    )
    config = read_config(path, {"PW": "pass"})
    assert config.redis.url == "redis://:pass@h:1/0"
    assert getattr(config.sources[0], "path_tokens")[0].reveal() == b"from-a-file"  # noqa: B009


@pytest.mark.parametrize("text", ["${}", "${file:none}", "${MISSING}"])
def test_a_variable_that_is_not_there_names_the_key(text: str, tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(f'redis.url = "redis://{text}"')
    with pytest.raises(ConfigError, match=r"redis\.url"):
        read_config(path, {})


@pytest.mark.parametrize("content", [b"\xff", b"a = ", None])
def test_a_file_that_is_none_names_the_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"headrace\.toml"):
        read_config(path, {})


def test_where_the_configuration_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {}) is None
    assert find_running_config(None, {}) is None
    (tmp_path / ".headrace").mkdir()
    (tmp_path / ".headrace" / "headrace.toml").touch()
    assert find_config(None, {}) is None, "`up` runs a demo"
    assert find_running_config(None, {}) == Path(".headrace/headrace.toml")
    (tmp_path / "headrace.toml").touch()
    assert find_running_config(None, {}) == Path("headrace.toml")
    assert find_config(None, {"HEADRACE_CONFIG": "env.toml"}) == Path("env.toml")
    assert find_config("option.toml", {"HEADRACE_CONFIG": "env.toml"}) == Path("option.toml")


def test_embedded_is_a_socket_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text('redis.url = "embedded"')
    assert read_config(path, {}).redis.url == f"unix://{socket_path(data_folder(path))}"
    assert data_folder(path) == tmp_path / ".headrace"
    assert data_folder(tmp_path / ".headrace" / "headrace.toml") == tmp_path / ".headrace"


@pytest.mark.parametrize(
    ("url", "broker", "options", "shown"),
    [
        ("redis://u:p@h:1/2", "redis://u:p@h:1/2", {}, "redis://h:1/2"),
        ("rediss://h/0", "rediss://h/0", {}, "rediss://h/0"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3", {}, "unix:///run/r.sock"),
        (
            "sentinel://:p%40@a:1,b/main/4",
            "sentinel://:p%40@a:1/4;sentinel://:p%40@b:26379/4",
            {"master_name": "main"},
            "sentinel://a:1,b/main/4",
        ),
    ],
)
def test_one_address_serves_redis_py_and_kombu(
    url: str, broker: str, options: dict[str, str], shown: str
) -> None:
    address = parse_address(url, PREFIX)
    assert address.broker() == (broker, options)
    assert address.shown == shown
    assert ":p" not in repr(address)
    assert parse_address(url, "eu:").broker() == (broker, {**options, "global_keyprefix": "eu:"})


def test_all_keys_have_the_prefix_but_celerys_under_the_default_one() -> None:
    assert (Keys().inbox("a"), Keys().open, Keys().queue) == ("hr:inbox:a", "hr:open", "headrace")
    eu = Keys("eu:")
    assert (eu.inbox("a"), eu.open, eu.queue) == ("eu:inbox:a", "eu:open", "eu:headrace")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0.5s", 0.5), ("15s", 15), ("10m", 600), ("12h", 43200), ("7d", 604800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("value", ["", "5", "s", "-1s", "1ms", "1 s", "0s", "9999999d", 5, None, True])
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match="duration|longer"):
        Duration.parse(value)
