"""The outbound HTTP client: exact deadlines, byte caps, pinned and checked addresses."""

from shared.egress.client import Egress, Exchange
from shared.egress.connection import Answer
from shared.egress.endpoint import Endpoint, header_lines

__all__ = ["Answer", "Egress", "Endpoint", "Exchange", "header_lines"]
