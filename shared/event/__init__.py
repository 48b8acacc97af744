"""The canonical event: what it holds, how it is read from JSON, and what its values mean. Only computes."""
