"""The providers, played: whole lifecycles with fresh ids and times, sent as the providers send them.

One module a provider holds its scenarios as data and writes its bodies; `plan` makes requests of them,
`sending` sends those, `summary` adds up the answers.
"""
