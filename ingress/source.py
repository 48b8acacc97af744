"""One configured source, ready to verify requests."""

from ingress.clients import AddressList, Headers
from shared.providers import make_adapter
from shared.providers.base import AnyAdapter
from shared.settings import SourceSettings


class Source:
    """One configured source: its adapter and its allowed addresses."""

    def __init__(self, settings: SourceSettings) -> None:
        self.name = settings.name
        self.adapter: AnyAdapter = make_adapter(settings)
        self.allowed = AddressList(settings.allow_ips)
        self._kept = self.adapter.kept_headers

    def kept(self, headers: Headers) -> dict[str, str]:
        """Return the headers that admission needs: the adapter's, and the content type unless it is plain
        JSON.
        """
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in self._kept or (name == b"content-type" and value != b"application/json")
        }
