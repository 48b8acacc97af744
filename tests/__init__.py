"""Headrace's tests: unit, integration, acceptance, faults, abuse, bench."""
