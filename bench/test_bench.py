"""pytest-benchmark over the table: ``pytest bench --benchmark-group-by=param:case``."""

import pytest
from table import check, small_cases

CASES = {case.name: case for case in small_cases()}


@pytest.mark.parametrize(
    ("case", "contender"), [(name, contender) for name, case in CASES.items() for contender in case.contenders]
)
def test_contender(benchmark, case, contender):
    benchmark.extra_info["objective"] = benchmark(CASES[case].contenders[contender])


@pytest.mark.parametrize("case", CASES)
def test_contenders_agree(case):
    check(CASES[case])
