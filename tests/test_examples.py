"""The examples in docstrings, as installed: they run as written, and no public solver lacks one."""

import doctest
import inspect

import pytest

import lola
from lola import solvers
from lola.solvers import oracle

ORACLES = ("bottleneck_milp", "chain_cp", "equal_split_matrix", "joint_bisection", "joint_misocp", "segment_milp")
FIRST = ("Profile", "Fleet", "Problem", "schedule", "simulate", "load_fleet", "load_profile", "load_scenario")
CHAINS = ("Clients", "Radio", "ChainProblem", "split", "split_clusters", "chain_metrics", "load_clients", "load_chain")
DEFT = ("PromptedClassifier", "PromptEnsemble", "prompt_encoder", "with_prompt")
LATENCIES = ("upload_s", "one_device_s", "centralised_s", "frequency_division_s", "air_computation_s")
SHOWN = {
    **{name: getattr(solvers, name) for name in dir(solvers) if inspect.isfunction(getattr(solvers, name))},
    **{f"oracle.{name}": getattr(oracle, name) for name in ORACLES},
    **{name: getattr(lola, name) for name in (*FIRST, "compare", "load_schedule", "StageProfile", "load_stages")},
    **{name: getattr(lola, name) for name in (*CHAINS, "HorizonProblem", "load_horizon")},
    **{name: getattr(lola, name) for name in ("Importance", "allocate_ranks", "load_importance", "load_ranks")},
    "RankPlan.verify": lola.RankPlan.verify,
    "Chain.verify": lola.Chain.verify,
    **{f"Schedule.{name}": getattr(lola.Schedule, name) for name in ("verify", "rows", "segments")},
    "BlockTask": lola.adapters.BlockTask,
    "ModelChain": lola.adapters.ModelChain,
    **{name: getattr(lola.air, name) for name in LATENCIES},
    **{name: getattr(lola.air, name) for name in ("PerfectUplink", "DigitalUplink", "AirUplink", "OverTheAirLinear")},
    **{name: getattr(lola.air, name) for name in ("put_over_the_air", "rayleigh_channel")},
    **{name: getattr(lola.deft, name) for name in DEFT},
    **{name: getattr(lola.profiling, name) for name in ("measure_distortion", "measure_importance")},
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(SHOWN[name], name, globs={})
    _, *lines = example.docstring.split("Examples\n")[1].strip().splitlines()
    assert 3 <= len(lines) <= 8
    said = []
    assert doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed == 0, "".join(said)


def test_every_example_is_among_them():
    """A docstring with an example that nobody runs would rot."""
    for package in (lola, lola.adapters, lola.air, lola.deft, lola.models, lola.profiling, lola.tasks, solvers):
        for name in dir(package):
            documented = getattr(package, name)
            if inspect.isfunction(documented) or inspect.isclass(documented):
                for test in doctest.DocTestFinder().find(documented, name):
                    assert not test.examples or test.name in SHOWN, test.name
