"""The store as a model: what it must hold after any run of steps, in plain Python."""

import pytest

# What fails there says what was compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("machine", "archived", "coming_in", "going_out", "run"))
)
