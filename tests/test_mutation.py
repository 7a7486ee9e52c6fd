"""The faults that bench/mutation.py puts in are judged by tests that exist, and counted right."""

import mutation


def test_every_file_has_tests_that_exist():
    wanted = {"solvers/newton.py", "lola/verification.py", "lola/proofs/prices.py", "lola/adapters/session.py"}
    wanted |= {"lola/tasks/glue.py"}
    assert wanted <= set(mutation.files())
    for file in mutation.files():
        target = mutation.target(file)
        assert target.ways
        for tests in target.tests:
            assert (mutation.ROOT / tests).exists(), (file, tests)


def test_every_target_is_the_first_that_fits_some_file():
    used = [mutation.target(file) for file in mutation.files()]
    for target in mutation.TARGETS:
        assert target in used, target.files


def test_the_page_counts_what_was_noticed_and_lists_the_rest():
    mutant = {"operator": "AddNot", "occurrence": 0, "line": 7, "text": "if found:"}
    outcomes = ("killed", "killed", "timeout", "survived")
    result = {"tree": "abc", "seed": 0, "mutants": [mutant | {"outcome": outcome} for outcome in outcomes]}
    text = mutation.page({"solvers/joint.py": result, "solvers/batch.py": {"tree": "abc", "seed": 0, "mutants": []}})
    assert "| `solvers/joint.py` | 4 | 2 | 1 | 1 | 75 % | abc |" in text
    assert "| `solvers/batch.py` | 0 | 0 | 0 | 0 | – | abc |" in text
    assert text.count("* `solvers/joint.py:7` AddNot: `if found:`") == 1
    assert "None." in mutation.page({})
