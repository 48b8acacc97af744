"""The store as a model: what it must hold after any run of steps, in plain Python."""
