"""The providers' sample events, ready to be sent: with fresh ids, and the credentials of a source."""

import json
import secrets
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from random import SystemRandom
from uuid import uuid4

import msgspec

_random = SystemRandom()

# In the order in which a provider would send them.
_NAMES = {
    "trustshare": (
        *("transaction_initiated", "payment_settling", "payment_received", "dispute_raised"),
        *("dispute_resolved", "payment_paused", "payment_released", "payment_returned"),
        *("transaction_complete", "transaction_abandoned", "handshake"),
    ),
    "trustap": ("basic_tx-joined", "p2p_tx-joined"),
    "truust": ("EscrowPublished",),
    "trustist": (
        *("InvitationStatusChanged-OPENED", "InvitationStatusChanged-COMPLETE"),
        *("PaymentStatusChanged-PENDING", "PaymentStatusChanged-FAILED", "PaymentStatusChanged-COMPLETE"),
    ),
}


class Sample(msgspec.Struct, frozen=True):
    """One sample event of a provider."""

    provider: str
    name: str
    body: bytes


def fresh_samples() -> list[Sample]:
    """Return every provider's samples, with ids that were never seen before and times of now."""
    fresh = {known.encode(): new.encode() for known, new in _fresh_ids().items()}
    samples = []
    for provider, names in _NAMES.items():
        for name in names:
            body = _read(provider, name)
            for known, new in fresh.items():
                body = body.replace(known, new)
            samples.append(Sample(provider, name, body))
    return samples


@cache
def _read(provider: str, name: str) -> bytes:
    return (files("shared") / "providers" / "samples" / provider / f"{name}.json").read_bytes()


def _fresh_ids() -> dict[str, str]:
    """Return what stands in the samples → what to put there; of the same length and alphabet."""

    def digits(count: int) -> str:
        return str(_random.randrange(10 ** (count - 1), 10**count))

    now = datetime.now(UTC)
    return {
        # trustshare
        "5CIXLExTtrIE8387": secrets.token_hex(8),
        "f79L9CBt3NuyEEap": secrets.token_hex(8),
        "oXkIwJcxE3S3Z8BX": secrets.token_hex(8),
        # Trustap
        "25992": digits(8),
        "1309": digits(8),
        "2025-04-09T10:08:41.905612674Z": now.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z",
        '"time": "2025-12-25T10:00:00.000Z"': json.dumps({"time": now.strftime("%Y-%m-%dT%H:%M:%S.000Z")})[
            1:-1
        ],
        # Truust
        "7654321": digits(7),
        '"id": 1234567,\n    "reference_id"': f'"id": {digits(7)},\n    "reference_id"',
        # Trustist
        "3f2b8c1e-5d7a-4c7e-9a43-0d6f1b2c9e10": str(uuid4()),
        "P-88310": f"P-{digits(8)}",
        "M-20417": f"M-{digits(6)}",
    }
