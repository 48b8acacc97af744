"""Dead letters that are kept on disk, because the target's share of Redis's memory had no room for them.

Only this package speaks SQL. It knows nothing of Redis: `shared.operations` reads the two as one.
"""
