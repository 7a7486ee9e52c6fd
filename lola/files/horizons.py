"""Models to fine-tune or to serve with, round by round (TOML), and plans that can be proven again (JSON)."""

import math
from importlib import resources
from typing import Any, TextIO

import numpy as np

from lola.chains.horizon import HorizonProblem
from lola.files.formats import (
    FormatError,
    StrPath,
    check_keys,
    integer,
    integers,
    number,
    numbers,
    read_json,
    read_toml,
    table,
    write_json,
)
from lola.solvers.checks import IntArray, expect, shown
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.solvers.horizon import HorizonPlan

HORIZON_FORMAT = "lola-horizon"
_MODEL_KEYS = ("name", "reward", "upgrade_cost")
_CHAIN_KEYS = ("transition", "initial", "horizon")
_PLAN_KEYS = ("objective", "upper_bound", "served", "upgraded", "values", "policy")


def load_horizon(path: StrPath) -> HorizonProblem:
    r"""Read models, what they pay and cost, and who asks for which, from TOML.

    Parameters
    ----------
    path : path-like
        ``models``, tables of ``name``, ``reward`` (a number a level) and ``upgrade_cost``, and either ``demand``, a
        name a round, or a Markov chain: ``transition``, ``initial`` and ``horizon``.

    Raises
    ------
    FormatError
        Naming the file, the key and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> import lola
    >>> text = 'demand = ["A", "A", "A"]\nmodels = [{name = "A", reward = [50, 125], upgrade_cost = 20}]'
    >>> written = Path("horizon.toml").write_text(text)
    >>> lola.load_horizon("horizon.toml").plan().objective
    230.0
    """
    return _problem(str(path), read_toml(path, "horizon"))


def builtin_horizon() -> HorizonProblem:
    """Return the case that ``lola horizon`` plans without arguments."""
    with resources.as_file(resources.files("lola.data")) as folder:
        return load_horizon(folder / "horizon.toml")


def save_horizon_plan(plan: HorizonPlan, problem: HorizonProblem, path: StrPath | TextIO) -> None:
    """Write a plan, its proof and the problem that it answers as JSON into a file or a stream.

    Raises
    ------
    VerificationError
        If the plan does not hold for this problem: what is written can be proven again.
    OSError
        If the file cannot be written.
    """
    expect("problem", problem, HorizonProblem)
    problem.verify(plan)
    arrays = {name: getattr(plan, name) for name in _PLAN_KEYS[2:]}
    lists = {name: None if array is None else array.ravel().tolist() for name, array in arrays.items()}
    scalars = {"objective": plan.objective, "upper_bound": plan.upper_bound}
    write_json(path, HORIZON_FORMAT, {"plan": scalars | lists, "problem": _problem_to_json(problem)})


def load_horizon_plan(path: StrPath) -> tuple[HorizonPlan, HorizonProblem]:
    """Read a plan and the problem that it answers. Reading proves nothing: call ``problem.verify(plan)``.

    Raises
    ------
    FormatError
        If the file is not such a plan; the message names the key and the mend.
    OSError
        If the file cannot be read.
    """
    data = read_json(path, HORIZON_FORMAT)
    check_keys(str(path), data, ("plan", "problem"))
    problem = _problem(f"{path}, problem", table(f"{path}, problem", data["problem"]))
    where, plan = f"{path}, plan", table(f"{path}, plan", data["plan"])
    check_keys(where, plan, _PLAN_KEYS)
    inputs = problem.inputs
    shape = inputs.n_levels if inputs.transition is None else (*inputs.n_levels, inputs.n_models)
    values = np.array(numbers(f"{where}, values", plan["values"]), dtype=np.float64)
    policy = _integers(f"{where}, policy", plan["policy"])
    if values.size != (inputs.rounds + 1) * math.prod(shape) or policy.size != inputs.rounds * math.prod(shape):
        raise FormatError(
            f"{where}: values and policy must have an entry for each round and joint level of the problem, got "
            f"{values.size} and {policy.size} entries; is the file cut short?"
        )
    if not ((policy >= -1) & (policy < inputs.n_models)).all():
        raise FormatError(f"{where}, policy: must hold −1 or an index of a model; is it another problem's?")
    served, upgraded = (
        None if plan[name] is None else _integers(f"{where}, {name}", plan[name]) for name in ("served", "upgraded")
    )
    return (
        HorizonPlan(
            number(f"{where}, objective", plan["objective"]),
            number(f"{where}, upper_bound", plan["upper_bound"]),
            served,
            upgraded,
            values.reshape(inputs.rounds + 1, *shape),
            policy.astype(np.int8).reshape(inputs.rounds, *shape),
            inputs.reward,
            inputs.cost,
        ),
        problem,
    )


def _integers(where: str, value: object) -> IntArray:
    return np.array(integers(where, value), dtype=np.int64)


def _problem(where: str, data: dict[str, Any]) -> HorizonProblem:
    check_keys(where, data, ("models",), ("demand", *_CHAIN_KEYS))
    if not isinstance(data["models"], list) or not data["models"]:
        raise FormatError(f"{where}, models: a table a model was wanted, [[models]], got {shown(data['models'])}")
    models = []
    for i, entry in enumerate(data["models"]):
        here = f"{where}, models[{i}]"
        model = table(here, entry)
        check_keys(here, model, _MODEL_KEYS)
        pays = numbers(f"{here}, reward", model["reward"])
        models.append((model["name"], pays, number(f"{here}, upgrade_cost", model["upgrade_cost"])))
    names, rewards, costs = zip(*models, strict=True)
    demand = data.get("demand")
    if demand is not None and (not isinstance(demand, list) or not all(isinstance(one, str) for one in demand)):
        raise FormatError(f"{where}, demand: a list of names of models was wanted, one a round, got {shown(demand)}")
    transition, initial, horizon = (data.get(key) for key in _CHAIN_KEYS)
    if transition is not None:
        if not isinstance(transition, list):
            raise FormatError(f"{where}, transition: a list of rows was wanted, got {shown(transition)}")
        transition = [numbers(f"{where}, transition[{i}]", row) for i, row in enumerate(transition)]
    try:
        return HorizonProblem(
            rewards,
            costs,
            demand,
            name=names,
            transition=transition,
            initial=None if initial is None else numbers(f"{where}, initial", initial),
            horizon=None if horizon is None else integer(f"{where}, horizon", horizon),
        )
    except FormatError:
        raise
    except (LolaTypeError, LolaValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def _problem_to_json(problem: HorizonProblem) -> dict[str, Any]:
    inputs = problem.inputs
    models = [
        {"name": problem.label(m), "reward": inputs.reward[m, :levels].tolist(), "upgrade_cost": float(inputs.cost[m])}
        for m, levels in enumerate(inputs.n_levels)
    ]
    if inputs.demand is not None:
        return {"models": models, "demand": [problem.label(m) for m in inputs.demand.tolist()]}
    assert inputs.transition is not None
    assert inputs.initial is not None
    chain = {"transition": inputs.transition.tolist(), "initial": inputs.initial.tolist(), "horizon": inputs.rounds}
    return {"models": models, **chain}
