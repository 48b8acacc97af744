"""Tests without I/O: no Redis, no sockets, no processes."""
