"""The demo's folder: its configuration, and its secrets, which all runs share."""

import re
import secrets
from pathlib import Path

from shared.delivery.signing import new_secret
from shared.process.folder import FOLDER
from shared.providers import simulations

_TARGETS = ("all", "ledger", "flaky")

_CONFIG = """\
# Written by `headrace up`, anew for every run. Change a copy of it: `headrace up` runs ./headrace.toml, or
# what is given with --config. Its secrets stay where they are.

[redis]
url = "embedded"

[archive]
url = "embedded"

[ingress]
host = "{host}"
port = {port}

{sources}# The demo's receiver verifies every signature (`headrace up --receiver {receiver_port}` runs it).
[[targets]]
name = "all"
url = "http://127.0.0.1:{receiver_port}/all"
secret = "${{file:{secrets}/all}}"
allow_private = ["127.0.0.1/32"]

[[targets]]
name = "ledger"
url = "http://127.0.0.1:{receiver_port}/ledger"
events = ["payment.*", "payout.*"]
filter = "data.money.amount_minor >= 10000"
secret = "${{file:{secrets}/ledger}}"
allow_private = ["127.0.0.1/32"]

[[targets]]  # answers 503 to the first attempt of each event
name = "flaky"
url = "http://127.0.0.1:{receiver_port}/flaky"
events = ["dispute.*"]
secret = "${{file:{secrets}/flaky}}"
retry = {{ initial = "1s", factor = 2.0, max = "1m", attempts = 8 }}
allow_private = ["127.0.0.1/32"]
"""


_SOURCE = """\
[[sources]]
name = "{provider}"
provider = "{provider}"
{keys}

"""


def write_demo(*, host: str, port: int, receiver_port: int) -> Path:
    """Write the demo's configuration into `./.headrace` and return its path. Secrets are made once."""
    folder = Path(FOLDER).absolute()
    vault = folder / "secrets"
    vault.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    demos = {provider: each.demo for provider, each in simulations().items() if each.demo is not None}
    for provider in demos:
        _keep(vault / provider, secrets.token_urlsafe(24))
    for name in _TARGETS:
        _keep(vault / name, new_secret())
    path = folder / "headrace.toml"
    # Absolute, so that a copy in another folder finds them. A path that needs escapes stays relative.
    where = vault if re.fullmatch(r"[^\"\\{}\x00-\x1f\x7f]+", str(vault)) else vault.name
    sources = "".join(
        _SOURCE.format(provider=provider, keys=demo.source.format(secret=f"${{file:{where}/{provider}}}"))
        for provider, demo in demos.items()
    )
    path.write_text(
        _CONFIG.format(host=host, port=port, receiver_port=receiver_port, secrets=where, sources=sources)
    )
    return path


def _keep(path: Path, fresh: str) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(fresh)
