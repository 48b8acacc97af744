"""The providers, played: whole lifecycles with fresh ids and times, sent as the providers send them.

A provider's own `simulation` module has its scenarios; `plan` makes requests of them, `sending` sends those,
`summary` adds up the answers.
"""
