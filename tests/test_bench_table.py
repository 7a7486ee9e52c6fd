"""The benchmark's table is right: what is timed side by side gives the same answers."""

import pytest
from table import check, small_cases

CASES = {case.name: case for case in small_cases()}


@pytest.mark.parametrize("name", CASES)
def test_contenders_agree(name):
    check(CASES[name])
