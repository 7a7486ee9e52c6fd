"""Which small faults do the tests let through? Needs lola-deft[mutation]; writes mutation.json and MUTATION.md.

    python bench/mutation.py --sample 30                       # 30 mutants a file, all files: hours on two cores
    python bench/mutation.py --sample 100 lola/verification.py # only what is named; goes on where it was stopped
    python bench/mutation.py --report                          # the page again, from the results that are there

A mutant is a file with one operator, number, condition or loop changed by cosmic-ray. It is written into a copy of the
checkout in a temporary folder, never into the checkout, and lives if all tests of its file pass there. Solvers are
tested uncompiled first, which takes seconds, and those that live once more compiled, with no cache to hide the change.
Places are drawn by the seed, then one change at each, so that more places only add to a sample. A file's results are
dropped when anything in lola/, solvers/, profiling/ or tests/ has changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from mutation_targets import COMPILED, TARGETS, UNCOMPILED, Target

from lola.files.formats import write_atomically

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STATE, PAGE = HERE / "mutation.json", HERE / "MUTATION.md"
CODE = ("lola", "solvers", "profiling", "tests")

# Identity in place of equality, the same of small numbers; bits in place of arithmetic, which no float survives.
_IDLE = re.compile(r"Operator_(?!Is)[A-Za-z]+_Is(Not)?$|Operator_(Add|Sub|Mul|Div|FloorDiv|Mod|Pow)_(.Shift|Bit\w+)$")


class Mutant(NamedTuple):
    """One change: what is done, to which of the places where it can be, and where that is."""

    operator: str
    occurrence: int
    line: int
    text: str


def files() -> list[str]:
    """Return the files to mutate, relative to the root."""
    paths = [ROOT / "lola/verification.py"]
    of_lola = ("proofs", "adapters", "air", "chains", "deft", "devices", "ranks", "tasks")
    folders = ("solvers", "solvers/oracle", *(f"lola/{name}" for name in of_lola))
    paths += [path for folder in folders for path in (ROOT / folder).glob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in paths if path.name != "__init__.py")


def target(file: str) -> Target:
    return next(target for target in TARGETS if fnmatch(file, target.files))


def draw(source: str, file: str, sample: int, seed: int) -> list[Mutant]:
    """Draw places, and at each one of the changes that can be made there."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    lines, tree = source.splitlines(), get_ast(source)
    places: dict[tuple[object, object], list[Mutant]] = {}
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or _IDLE.search(name):
            continue
        counted = 0
        for node in ast_nodes(tree):
            for start, end in operator().mutation_positions(node):
                change = Mutant(name.removeprefix("core/"), counted, start[0], lines[start[0] - 1].strip())
                counted += 1
                undone = name.endswith("RemoveDecorator") and "kernel" in change.text  # uncompiled is as right
                if not undone and not _of_a_type(node):
                    places.setdefault((start, end), []).append(change)
    rng = random.Random(f"{seed} {file}")
    order = sorted(places)
    rng.shuffle(order)
    return [rng.choice(places[place]) for place in order[:sample]]


def _of_a_type(node: Any) -> bool:
    """Whether a node is part of an annotation, which nothing reads at run time."""
    while node.parent is not None:
        before = node.get_previous_sibling()
        sign = "" if before is None else before.get_code().strip()
        if (node.parent.type, sign) in (("annassign", ":"), ("tfpdef", ":"), ("funcdef", "->")):
            return True
        node = node.parent
    return False


def run(copy: Path, tests: tuple[str, ...], way: dict[str, str], limit_s: float) -> str:
    """Run tests in a copy of the checkout: ``"survived"``, ``"killed"`` or ``"timeout"``."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", *UNCOMPILED, *COMPILED)}
    # Python takes a file of the same size and second for the one that it compiled.
    environment |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(copy / ".numba")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *tests]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environment | way,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return "survived" if process.wait(limit_s) == 0 else "killed"
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:  # whatever the tests started, too, and also when interrupted
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def baseline(copy: Path, target: Target, known: dict[Any, float]) -> list[float]:
    """Seconds that the tests take each way where nothing is changed; they must pass."""
    for way in target.ways:
        key = (target.tests, tuple(way))
        if key not in known:
            if not way:
                run(copy, target.tests, way, 3600)  # fills the cache
            start = time.perf_counter()
            if run(copy, target.tests, way, 3600) != "survived":
                raise SystemExit(
                    f"{' '.join(target.tests)} fail without any change ({way or 'as usual'}); mend them first"
                )
            known[key] = time.perf_counter() - start
    return [known[target.tests, tuple(way)] for way in target.ways]


def judge(copy: Path, file: str, mutant: Mutant, seconds: list[float]) -> str:
    """Put a mutant in place, test it each way until one notices, and put the file back."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = copy / file
    source = path.read_text()
    changed = mutate_code(source, get_operator(f"core/{mutant.operator}")(), mutant.occurrence)
    assert changed not in (None, source), mutant
    path.write_text(changed)
    try:
        for way, usual in zip(target(file).ways, seconds, strict=True):
            outcome = run(copy, target(file).tests, way, 20 + 4 * usual)
            if outcome != "survived":
                break
    finally:
        path.write_text(source)
    return outcome


def tree() -> str:
    """Digest of all that decides whether a mutant lives."""
    state = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:12]


def measure(chosen: list[str], sample: int, seed: int, results: dict[str, Any]) -> Iterator[None]:
    """Judge the mutants that have no result yet, and yield after each."""
    now, known = tree(), {}
    with tempfile.TemporaryDirectory(prefix="lola-mutation-") as folder:
        copy = Path(folder) / "lola"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "*.png"))
        for file in chosen:
            if results.get(file, {}).get("tree") != now or results[file]["seed"] != seed:
                results[file] = {"tree": now, "seed": seed, "mutants": []}
            done = results[file]["mutants"]
            todo = draw((copy / file).read_text(), file, sample, seed)[len(done) :]
            seconds = baseline(copy, target(file), known) if todo else []
            for mutant in todo:
                outcome = judge(copy, file, mutant, seconds)
                done.append({**mutant._asdict(), "outcome": outcome})
                print(f"{file}:{mutant.line}: {outcome}: {mutant.operator}: {mutant.text}", flush=True)
                yield


def page(results: dict[str, Any]) -> str:
    """Write the results as a page: a row for each file, then where the survivors are."""
    rows, survivors, total = [], [], Counter[str]()
    for file, result in sorted(results.items()):
        counts = Counter(mutant["outcome"] for mutant in result["mutants"])
        total += counts
        rows.append(_row(f"`{file}`", counts, result["tree"]))
        survivors += [
            f"* `{file}:{mutant['line']}` {mutant['operator']}: `{mutant['text'].replace('`', '')}`"
            for mutant in sorted(result["mutants"], key=lambda mutant: (mutant["line"], mutant["operator"]))
            if mutant["outcome"] == "survived"
        ]
    return "\n".join(
        [
            "# Faults put in, and which the tests let through",
            "",
            "Written by `python bench/mutation.py`, which says how; do not edit. *Noticed*: a test failed, or the",
            "tests ran over four times as long as usual. A survivor may change nothing that can be seen (a number in a",
            "message, a shortcut that is right either way). *Tree*: digest of the code and tests that were measured.",
            "",
            "| file | mutants | killed | timeout | survived | noticed | tree |",
            "|---|---|---|---|---|---|---|",
            *rows,
            _row("all", total, ""),
            "",
            "## Survivors",
            "",
            *(survivors or ["None."]),
            "",
        ]
    )


def _row(name: str, counts: Counter[str], tree: str) -> str:
    n, lived = counts.total(), counts["survived"]
    noticed = f"{100 * (n - lived) / n:.0f} %" if n else "–"
    return f"| {name} | {n} | {counts['killed']} | {counts['timeout']} | {lived} | {noticed} | {tree} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="as in solvers/joint.py; without any, all files")
    parser.add_argument("--sample", type=int, default=30, metavar="N", help="mutants of each file (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="which mutants follows from it (default 0)")
    parser.add_argument("--report", action="store_true", help="judge none; write the page from what is there")
    parser.add_argument("--fresh", action="store_true", help="forget all earlier results")
    options = parser.parse_args()
    if unknown := sorted(set(options.files) - set(files())):
        parser.error(f"{', '.join(unknown)}: not among the files to mutate, which are {', '.join(files())}")
    results = json.loads(STATE.read_text()) if STATE.exists() and not options.fresh else {}
    try:
        for _ in measure([] if options.report else options.files or files(), options.sample, options.seed, results):
            write_atomically(STATE, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
    write_atomically(PAGE, page(results))


if __name__ == "__main__":
    main()
