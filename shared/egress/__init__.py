"""The outbound HTTP client: exact deadlines, byte caps, pinned and checked addresses."""

from shared.egress.client import Egress
from shared.egress.connection import Answer
from shared.egress.endpoint import Endpoint

__all__ = ["Answer", "Egress", "Endpoint"]
