"""The demo that `headrace up` runs without a configuration: providers, targets and a receiver of our own."""
