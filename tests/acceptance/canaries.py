"""What is planted in requests and configurations, and must not be found outside of payloads."""

from tests.acceptance.gateway import (
    BASIC,
    SECRET,
    TRUSTAP_PASSWORD,
    TRUSTIST_TOKEN,
    TRUSTSHARE_SECRET,
    TRUUST_TOKEN,
)

EMAIL, CARD, NOTE = "canary.buyer@example.com", "4077 9812 3456 7842", "canary-description"
WRONG = "canary-wrong-credential"
CANARIES = (
    *(EMAIL, CARD, NOTE, WRONG, SECRET, SECRET.removeprefix("whsec_")),
    *(TRUSTSHARE_SECRET, TRUSTAP_PASSWORD, BASIC.removeprefix("Basic "), TRUUST_TOKEN, TRUSTIST_TOKEN),
)
