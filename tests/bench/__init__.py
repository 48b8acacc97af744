"""Benchmarks: `python -m tests.bench NAME`. Each compares within one run, and prints ratios beside figures."""
