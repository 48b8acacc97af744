"""What the pages show of commands, receivers and configurations is what happens."""

import json
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from shared.config.file import read_config
from shared.delivery.signing import sign, signing_key
from shared.secrets import Secret
from tests.documents.markers import RENEW, ROOT, renewed
from tests.documents.outputs import NAMES
from tests.documents.pages import OUTPUTS

README = (ROOT / "README.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"id": "evt_1a1ffdd5680b1a5d6f30"}'


@pytest.mark.parametrize("page", OUTPUTS)
def test_what_commands_print_is_what_the_page_shows(page: str) -> None:
    text = (ROOT / page).read_text()
    assert renewed(text, OUTPUTS[page]) == text, RENEW


def test_every_output_stands_in_a_page() -> None:
    assert sorted(name for parts in OUTPUTS.values() for name in parts) == sorted(NAMES)


def block(language: str) -> str:
    """Return the first block of code of a language in README.md."""
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    assert found
    return textwrap.dedent(found[2])


def headers() -> dict[str, str]:
    """Return the headers of a delivery of BODY, signed now."""
    at = int(time.time())
    signature = sign([signing_key(Secret(SECRET))], "evt_1", at, BODY)
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature.decode(),
    }


def test_the_configuration_that_the_readme_begins_with_is_read(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(block("toml"))
    config = read_config(path, {"TRUSTSHARE_SECRET": "a-secret-of-trustshare", "LEDGER_SECRET": SECRET})
    assert [source.name for source in config.sources] == ["trustshare"]
    assert [target.name for target in config.targets] == ["ledger"]


def test_the_receiver_in_python_verifies() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102 — what the page tells a reader to write
    receive: Callable[[str, dict[str, str], bytes], Any] = names["receive"]
    assert receive(SECRET, headers(), BODY) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        receive(SECRET, headers(), BODY + b" ")


@pytest.mark.skipif(not shutil.which("node") or not shutil.which("npm"), reason="no Node here")
def test_the_receiver_in_node_verifies(tmp_path: Path) -> None:
    try:
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "standardwebhooks"]
        installed = subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("no npm registry answers")
    if installed.returncode:
        pytest.skip("no npm registry answers")
    (tmp_path / "receive.mjs").write_text(block("js"))
    (tmp_path / "try.mjs").write_text(
        'import { receive } from "./receive.mjs";\n'
        "const [secret, headers, body] = process.argv.slice(2);\n"
        "console.log(JSON.stringify(receive(secret, JSON.parse(headers), body)));\n"
        'try { receive(secret, JSON.parse(headers), body + " "); } catch (error) { console.log(error.name); }\n'
    )
    argv = ["node", "try.mjs", SECRET, json.dumps(headers()), BODY.decode()]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    read, refused = done.stdout.splitlines()
    assert json.loads(read) == json.loads(BODY)
    assert "Error" in refused
