"""No circle of imports anywhere in the package, and a verifier that needs no solver."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from scenario import small_problem

import lola

ROOT = Path(__file__).resolve().parents[1]
# Installed, the last two are folders of lola, and so they are counted.
FOLDERS = {"lola": "lola", "solvers": "lola.solvers", "profiling": "lola.profiling"}


def modules():
    """The file of each module, by its full name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def stub(package):
    """Where the names of a lazy package come from. Its own ``__init__`` imports nothing that its stub names."""
    path = MODULES[package].with_name("__init__.pyi")
    if not path.exists():
        return {}
    lines = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in lines for alias in node.names}


def behind(module):
    """A module, or all that a lazy package may load when its attributes are asked for."""
    names = stub(module) if MODULES[module].name == "__init__.py" else {}
    inner = (f"{home}.{name}" if home == module else home for name, home in names.items())
    return {module}.union(*map(behind, inner))


def resolved(node):
    """The modules of lola that one import statement leads to."""
    if isinstance(node, ast.Import):
        return set().union(*(behind(alias.name) for alias in node.names if alias.name in MODULES))
    if node.module not in MODULES:
        return set()
    found = set()
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        found |= behind(inner) if inner in MODULES else {stub_home(node.module, alias.name)}
    return found


def stub_home(module, name):
    return stub(module).get(name, module) if MODULES[module].name == "__init__.py" else module


def imports(tree):
    """What a file imports, in functions too, but not what type checkers alone see."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        return set().union(*map(imports, tree.orelse))
    if isinstance(tree, ast.Import | ast.ImportFrom):
        return resolved(tree)
    return set().union(*map(imports, ast.iter_child_nodes(tree)))


@pytest.fixture(scope="module")
def graph():
    return {name: imports(ast.parse(path.read_text())) for name, path in MODULES.items()}


def test_no_circle_of_imports(graph):
    assert len(graph) > 60
    list(graphlib.TopologicalSorter(graph).static_order())


def test_the_graph_sees_what_runs_and_what_lazy_packages_hide(graph):
    source = """
from typing import TYPE_CHECKING
import numpy, lola.fleet
from lola import Problem
from lola.files import formats
if TYPE_CHECKING:
    from lola.simulation import Simulation
else:
    import lola.evidence
def later():
    from lola.solvers import crunch
"""
    wanted = {"lola.fleet", "lola.problem", "lola.files.formats", "lola.evidence", "lola.solvers.cutting"}
    assert imports(ast.parse(source)) == wanted
    assert {"lola.simulation", "lola.solvers.joint", "lola.adapters.session"} <= imports(ast.parse("import lola"))
    assert "lola.solvers.joint" in graph["lola.methods.solving"]
    circle = {**graph, "lola.proofs.hall": graph["lola.proofs.hall"] | {"lola.solution"}}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(circle).static_order())


def test_a_proof_leads_to_no_solver(graph):
    """Whatever a check of a proof may import in turn. `lola.verification` asks the table what a method claims, too."""
    reached, ahead = set(), ["lola.proofs"]
    while ahead:
        module = ahead.pop()
        reached.add(module)
        ahead += graph[module] - reached
    assert {"lola.problem", "lola.fleet", "lola.solvers.checks"} <= reached
    for module in (*reached, "lola.verification"):
        solvers = {name for name in graph[module] if name.startswith("lola.solvers")}
        assert solvers <= {"lola.solvers.checks", "lola.solvers.errors"}, module


@pytest.mark.parametrize("method", ["jbba", "ba", "jbba-dual-ascent", "random"])
def test_a_saved_schedule_is_proven_without_loading_a_solver(method, tmp_path):
    problem = small_problem()
    lola.save_schedule(lola.schedule(problem, method, seed=1), problem, tmp_path / "s.json")
    code = "import sys, lola\nschedule, problem = lola.load_schedule('s.json')\nschedule.verify(problem)\n"
    code += "print(*[name for name in sys.modules if name.startswith(('lola.solvers', 'numba'))])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) == {"lola.solvers", "lola.solvers.checks", "lola.solvers.errors"}
