"""Abuse: what strangers and broken senders do, at real sockets."""
