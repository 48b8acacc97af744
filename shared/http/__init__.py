"""The outbound HTTP client: exact deadlines, byte caps, pinned and checked addresses."""

from shared.http.answer import Answer
from shared.http.client import Egress, Exchange
from shared.http.endpoint import Endpoint, header_lines

__all__ = ["Answer", "Egress", "Endpoint", "Exchange", "header_lines"]
