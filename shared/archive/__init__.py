"""What is kept outside of Redis, in SQL. Only this package speaks it, and it knows nothing of Redis:
`shared.operations` reads the two as one.

The archive (`database`, `writer`, `reader`) has finished events, month by month, until they are too old
(`expiry`), unless they are held (`holds`); `dead_letters` is a file of those that had no room in their
target's share of Redis's memory.
"""
