"""What is kept outside of Redis: dead letters for which a target's share of memory had no room.

Only this package speaks SQL. It knows nothing of Redis: `shared.operations` reads the two as one.
"""
