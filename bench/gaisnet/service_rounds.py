"""Table V and Fig. 8: fine-tune or serve, by lola's optimum and by the actions that the paper prints."""

from __future__ import annotations

from typing import Any

import numpy as np

import lola
from lola.solvers import horizon_profit

DEMAND = "AABCCCCCCC"
COST, FIRST, STEP = 50, 50, 25
PRINTED = {"proposed": "AccCCCCCCC", "immediate": "AABCCCCCCC", "random": "aabCbCaCcC"}  # small: fine-tuned
PRINTED_PROFIT = {"proposed": 650, "immediate": 500, "random": -75}
CAPS = {"two levels up": 2, "no cap": len(DEMAND)}

Record = dict[str, Any]


def levels(raises: int) -> list[list[int]]:
    """Return what serving pays, three models alike that can be fine-tuned so often."""
    return [[FIRST + STEP * level for level in range(raises + 1)]] * 3


def run() -> Record:
    """Plan with two levels up and with no cap, and replay what is printed."""
    optimal = {}
    for cap, raises in CAPS.items():
        problem = lola.HorizonProblem(levels(raises), COST, DEMAND, name=["A", "B", "C"])
        plan = problem.plan()
        problem.verify(plan)
        actions = "".join(DEMAND[t] if model < 0 else "abc"[model] for t, model in enumerate(plan.upgraded.tolist()))
        optimal[cap] = {"actions": actions, "profit": replayed(actions, raises), "bound": plan.upper_bound}
    printed = {
        name: {"actions": actions, "profit": replayed(actions, most_raised(actions))}
        for name, actions in PRINTED.items()
    }
    return {"demand": DEMAND, "optimal": optimal, "printed": printed}


def most_raised(actions: str) -> int:
    """Return how often the model that is fine-tuned most is."""
    return max(actions.count(model) for model in "abc")


def replayed(actions: str, raises: int) -> list[float]:
    """Return the profit of each round; a capital serves, a small letter fine-tunes."""
    upgraded = ["abc".find(action) for action in actions]
    demand = ["ABC".index(model) for model in DEMAND]
    run = horizon_profit(np.array(levels(raises), dtype=float), COST, demand, upgraded)
    return run.profit.tolist()
