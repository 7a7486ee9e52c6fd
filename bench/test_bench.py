"""pytest-benchmark over the table: ``pytest bench --benchmark-group-by=param:case``."""

import pytest
from table import small_cases

CASES = {case.name: case for case in small_cases()}


@pytest.mark.parametrize(
    ("case", "contender"), [(name, contender) for name, case in CASES.items() for contender in case.contenders]
)
def test_contender(benchmark, case, contender):
    benchmark(CASES[case].contenders[contender])
    benchmark.extra_info["objective"] = CASES[case].value(contender)
