"""The whole gateway, as its users meet it: real processes, real sockets, a real Redis."""
