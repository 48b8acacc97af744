"""Plays the providers: whole lifecycles with fresh ids and times, sent as the providers send them.

A provider's own `simulation` module has its scenarios. `plan` makes requests from them, `sending` sends
those, and `summary` adds up the answers.
"""
