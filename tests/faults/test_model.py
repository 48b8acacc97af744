"""The store against a model: random runs of everything that happens to it, compared after every step.

    pytest tests/faults/test_model.py                                   # three thousand steps, always the same
    pytest tests/faults/test_model.py --model-steps 200000              # more, each 10,000 from a seed of its own
    pytest tests/faults/test_model.py --hypothesis-seed 7               # another seed: the first of them

A run that fails is shrunk and printed as a program; the seed stands in the test's name, and the same seed makes the
same run again.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import MEMORY
from tests.faults.model.archive import WithArchive
from tests.faults.model.archived import ArchivedMachine
from tests.faults.model.machine import Machine
from tests.faults.model.product import Product
from tests.faults.model.run import Run

STEPS_A_RUN = 50
STEPS_A_TEST = 10_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    steps = metafunc.config.getoption("--model-steps")
    first = int(metafunc.config.getoption("--hypothesis-seed") or 0)
    parts = [min(STEPS_A_TEST, steps - start) for start in range(0, steps, STEPS_A_TEST)]
    metafunc.parametrize(
        ("number", "steps"),
        [(first + part, steps) for part, steps in enumerate(parts)],
        ids=[f"seed-{first + part}" for part in range(len(parts))],
    )


@pytest.mark.timeout(900)
def test_the_store_does_what_the_model_says(
    number: int, steps: int, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = Machine.product = Product(redis_url, monkeypatch)
    run(Machine, product, number, steps)


@pytest.mark.timeout(900)
def test_the_store_and_its_archive_do_what_the_model_says(
    number: int, steps: int, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        product = ArchivedMachine.product = WithArchive(redis_url, monkeypatch, Path(folder))
        run(ArchivedMachine, product, number, steps)


def run(machine: type[Machine], product: Product, number: int, steps: int) -> None:
    """Run a machine until it has made so many steps."""
    Run.steps = 0
    try:
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                stateful_step_count=STEPS_A_RUN,
                max_examples=1 + steps * 2 // STEPS_A_RUN,  # a run has fewer steps than it may have
                deadline=None,
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink],
            ),
        )
    finally:
        product.close()
        print(f"{Run.steps} steps from seed {number}")
    assert Run.steps >= steps, "the machine stopped early"
