"""Faults: processes, connections and inputs that go wrong."""
