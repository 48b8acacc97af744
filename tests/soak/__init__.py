"""The soak: the whole gateway under load, kills and misbehaving targets; then every event is accounted for.

`deploy/soak MINUTES` runs it. One seed decides what is sent, broken and answered; who wins a race, it does not.
"""
