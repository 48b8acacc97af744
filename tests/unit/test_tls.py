"""The options of a `rediss://` URL: redis-py's, all of them, with its meanings."""

import inspect
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
from redis.asyncio import SSLConnection

from shared.settings import PREFIX
from shared.store.address import parse_address
from shared.store.tls import tls_context

CA = trustme.CA()


def options_of(query: str) -> dict[str, Any]:
    address = parse_address(f"rediss://user:p%40ss@redis.test/2?{query}", PREFIX)
    assert (address.url, address.host, address.port) == (
        "rediss://user:p%40ss@redis.test/2",
        "redis.test",
        6379,
    )
    assert (address.username, address.password, address.db) == ("user", "p@ss", 2)
    return address.tls


def test_without_options_certificate_and_name_are_checked() -> None:
    context = tls_context(options_of(""))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert parse_address("redis://redis.test/2", PREFIX).tls == {}


def test_all_options_of_redis_py_are_taken(tmp_path: Path) -> None:
    ca, chain = tmp_path / "ca.pem", tmp_path / "chain.pem"
    CA.cert_pem.write_to_path(str(ca))
    CA.issue_cert("redis.test").private_key_and_cert_chain_pem.write_to_path(str(chain))
    given: dict[str, object] = {
        "ssl_ca_certs": ca,
        "ssl_ca_path": tmp_path,
        "ssl_ca_data": ca.read_text(),
        "ssl_certfile": chain,
        "ssl_keyfile": chain,
        "ssl_password": "not needed",
        "ssl_cert_reqs": "optional",
        "ssl_check_hostname": False,
        "ssl_min_version": "TLSv1_3",
        "ssl_ciphers": "ECDHE+AESGCM",
        "ssl_include_verify_flags": "VERIFY_CRL_CHECK_LEAF, VERIFY_X509_STRICT",
        "ssl_exclude_verify_flags": "VERIFY_X509_TRUSTED_FIRST",
    }
    options = options_of(urlencode(given))
    known = {name for name in inspect.signature(SSLConnection).parameters if name.startswith("ssl_")}
    assert options.keys() == known
    context = tls_context(options)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_OPTIONAL, False)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.verify_flags & ssl.VERIFY_X509_TRUSTED_FIRST
    assert "AES128-SHA" not in {cipher["name"] for cipher in context.get_ciphers()}
    assert CA.cert_pem.bytes() in {
        ssl.DER_cert_to_PEM_cert(trusted).encode() for trusted in context.get_ca_certs(binary_form=True)
    }


def test_what_is_not_checked_is_not_checked() -> None:
    context = tls_context(options_of("ssl_cert_reqs=none"))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert tls_context(options_of("ssl_min_version=771")).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rediss://h/0?ssl_ca_cert=/ca.pem", "takes no option 'ssl_ca_cert', only ssl_cert_reqs, "),
        ("rediss://h/0?socket_timeout=60", "takes no option 'socket_timeout'"),
        ("rediss://h/0?db=1", "takes no option 'db'"),
        ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", "ssl_cert_reqs cannot be 'CERT_REQUIRED'"),
        ("rediss://h/0?ssl_min_version=TLSv9", "ssl_min_version cannot be 'TLSv9'"),
        (
            "rediss://h/0?ssl_include_verify_flags=VERIFY_ALL",
            "ssl_include_verify_flags cannot be 'VERIFY_ALL'",
        ),
        ("redis://h/0?ssl_cert_reqs=required", "takes no options"),
    ],
)
def test_an_unknown_option_is_refused_by_name(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_address(url, PREFIX)
