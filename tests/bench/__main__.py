"""`python -m tests.bench NAME`."""

import sys

from tests.bench import fair

BENCHMARKS = {"fair": fair.main}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m tests.bench {'|'.join(BENCHMARKS)}")
    BENCHMARKS[sys.argv[1]]()
