"""Shared set-up: where real data lies, and how many random instances a run can afford."""

import os
from pathlib import Path

import numba
import pytest

# As the commands that run torch have it: threads that spin between steps of a toy take a busy machine's time, sixfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    if numba.config.DISABLE_JIT:
        # Uncompiled, the kernels divide and overflow with numpy's warnings; compiled, they do it silently.
        config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning")


@pytest.fixture(scope="session")
def instances():
    """Scale a number of random instances down where the kernels run uncompiled, and up by LOLA_TEST_FACTOR."""
    if numba.config.DISABLE_JIT:
        return lambda count: max(count // 20, 20)
    factor = int(os.environ.get("LOLA_TEST_FACTOR", "1"))
    return lambda count: count * factor


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data: missing it is an error in CI and a visible skip elsewhere."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"real data is missing: {SHARED_DATA}")
        pytest.skip(f"real data is missing: {SHARED_DATA}")
    return SHARED_DATA
