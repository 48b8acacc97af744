"""What ingress and workers share: the configuration, the canonical event, the store, the egress client."""

__version__ = "0.1.0"
