"""Which targets get an event, and what of it: a request read by its provider's adapter, matched, redacted."""
