"""The intake: reads a provider's request, verifies it, commits it to the inbox, and answers."""
