"""Who may import whom, in the source and at run time."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "ortools",
    "cvxpy",
    "pyscipopt",
    "highspy",
    "matplotlib",
    "pandas",
    "sklearn",
    "datasets",
    "tensorboard",
    "paho",
    "amqtt",
    "cryptography",
}
# What each folder may import, apart from the standard library; the exceptions import when they are called.
MAY = {
    "solvers": {"numpy", "numba", "platformdirs", "lola._lazy", "lola.solvers"},
    "profiling": {
        "numpy",
        "lola._lazy",
        "lola.models",
        "lola.air.placement",
        "lola.profiling",
        "lola.profile",
        "lola.chains.stages",
        "lola.evidence",
        "lola.ranks.importance",
        "lola.solvers.checks",
        "lola.solvers.errors",
        "torch",
        "transformers",
        "peft",
        "scipy",
    },
    # The hub is asked once whether it has a model; the last six are for tuning and scoring one of texts, and devices.
    "lola": {
        "numpy",
        "rich",
        "platformdirs",
        "lola",
        "argcomplete",
        "matplotlib",
        "torch",
        "safetensors",
        "filelock",
        "peft",
        "transformers",
        "huggingface_hub",
        "datasets",
        "sklearn",
        "scipy",
        "paho",
        "amqtt",
        "cryptography",
    },
}


def imported(path):
    """Modules a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("folder", MAY)
def test_import_rules(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) >= 2
    for path in files:
        for module in imported(path):
            allowed = module.split(".")[0] in sys.stdlib_module_names or any(
                module == name or module.startswith(f"{name}.") for name in MAY[folder]
            )
            assert allowed, f"{path.relative_to(ROOT)} may not import {module}"


def test_adapters_solve_nothing():
    for path in (ROOT / "lola" / "adapters").glob("*.py"):
        solvers = {module for module in imported(path) if module.startswith("lola.solvers")}
        assert solvers <= {"lola.solvers.checks", "lola.solvers.errors"}, path


def loaded_after(statement, cwd):
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True, timeout=60)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("cwd", [ROOT, ROOT.parent], ids=["from the root", "from elsewhere"])
def test_nothing_heavy_is_loaded_early(cwd):
    assert not loaded_after("import lola", cwd) & (HEAVY | {"numba", "numpy"})
    assert not loaded_after("import lola; lola.Problem; lola.schedule; lola.solvers.joint_allocation", cwd) & HEAVY
    names = "p = lola.profiling; [getattr(p, name) for name in dir(p)]"
    code = f"import lola.profiling, lola.cli.main; lola.save_profile; lola.Problem; {names}"
    code += "\nfor p in (lola.adapters, lola.air, lola.deft, lola.devices): [getattr(p, name) for name in dir(p)]"
    assert not loaded_after(code, cwd) & (HEAVY | {"numba", "scipy"})


def test_every_public_name_is_there():
    import lola
    import lola.adapters
    import lola.air
    import lola.deft
    import lola.devices
    import lola.profiling
    import lola.solvers

    for package in (lola, lola.adapters, lola.air, lola.deft, lola.devices, lola.solvers, lola.profiling):
        for name in dir(package):
            assert getattr(package, name).__doc__ or name in ("METHODS",), name


def test_no_file_outgrows_its_subject():
    paths = [
        path for folder in ("bench", "lola", "profiling", "solvers", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    assert {"bench/paper", "lola/adapters", "tests/solvers"} <= {str(path.parent.relative_to(ROOT)) for path in paths}
    for path in paths:
        assert len(path.read_text().splitlines()) <= 330, path


def test_an_incomplete_copy_says_what_to_do(tmp_path):
    shutil.copytree(ROOT / "lola", tmp_path / "lola", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", "import lola"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "its solvers are missing. Import it from a whole checkout, or install it with 'pip install .'" in done.stderr


def solve_elsewhere(folder, **variables):
    """Split a band in a process of its own, with compiled code kept in `folder`; returns what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "LOLA", "XDG_CACHE"))
    }
    environment |= {"HOME": str(folder), "LOCALAPPDATA": str(folder), **variables}
    code = "from lola.solvers import bandwidth_split as f; print(f([1.0], 1.0, [1.0], bandwidth_hz=1.0).objective)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return float(done.stdout)


@pytest.mark.parametrize("cache", ["usual", "unwritable", "off"])
def test_kernels_compile_wherever_the_cache_may_be(tmp_path, cache):
    """Compiled code goes to the user's cache folder, never beside the source; without a place for it, to none."""
    home = tmp_path / "home"
    if cache == "unwritable":
        home.write_text("a file where a folder should be")
    assert solve_elsewhere(home, LOLA_NUMBA_CACHE="0" if cache == "off" else "1") == pytest.approx(2.0)
    compiled = list(home.rglob("*.nbc")) if home.is_dir() else []
    assert bool(compiled) == (cache == "usual")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_compiled_code_is_compiled_again(tmp_path, suffix):
    home = tmp_path / "home"
    solve_elsewhere(home)
    files = sorted(home.rglob(f"*.{suffix}"))
    assert len(files) >= 3
    for number, path in enumerate(files):
        size = path.stat().st_size
        os.truncate(path, (0, size // 2, size - 1)[number % 3])
    assert solve_elsewhere(home) == pytest.approx(2.0)
    written = {path: path.stat().st_mtime_ns for path in files}
    assert solve_elsewhere(home) == pytest.approx(2.0)
    assert {path: path.stat().st_mtime_ns for path in files} == written


def test_compiled_code_follows_every_file_of_the_solvers(tmp_path):
    """A kernel of one file calls that of another: when the other changes, both are compiled again."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("lola", "solvers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    code = (
        "from lola.solvers import joint_allocation_batch as solve\n"
        "found = solve([1.0], [0.0], 1.0, [1.0], [0.0], [[1.0]], bandwidth_hz=1.0)\n"
        "print(found.objective[0] / found.lower_bound[0] - 1)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "LOLA"))}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    gaps = []
    for gap in ("2.5e-13", "1e-9"):
        path = tmp_path / "solvers" / "newton.py"
        path.write_text(re.sub(r"FIRST_GAP = .*", f"FIRST_GAP = {gap}", path.read_text()))
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        gaps.append(float(done.stdout))
    assert gaps[0] < 1e-12
    assert gaps[1] == pytest.approx(1e-9, rel=1e-3)
