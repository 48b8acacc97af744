"""Which targets get an event: a request read by its provider's adapter, and matched."""
