"""Improve a model or serve with it, round by round: the most profit by backward induction over the models' levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import FloatArray, IntArray
from lola.solvers.errors import LolaValueError
from lola.solvers.horizon_inputs import (
    HorizonInputs,
    PolicyTable,
    horizon_inputs,
    models_demanded,
    next_level,
    pays_and_costs,
)

# What the values and the policy may take.
MOST_BYTES = 2 << 30


class HorizonRun(NamedTuple):
    """What came of a demand, round by round."""

    served: IntArray  # (T,) model served, −1 where one was raised
    upgraded: IntArray  # (T,) model raised by a level, −1 where one was served
    profit: FloatArray  # (T,) what was earned; negative where it was paid


@dataclass(frozen=True, eq=False)
class HorizonPlan:
    """An optimal plan, and its proof. "Levels" stands for one axis a model: its level, from 0.

    Attributes
    ----------
    objective : float
        The profit of all rounds; expected where demand is a Markov chain.
    upper_bound : float
        No plan earns more: `objective`, and what the roundings of the values can hide.
    served : (T,) int64 array or None
        The model served in each round, −1 where one is raised. None where demand is a Markov chain: `follow` says it
        for each demand.
    upgraded : (T,) int64 array or None
        The model raised by one level in each round, −1 where one is served; None alike.
    values : (T + 1, levels) or (T + 1, levels, models) float64 array
        The most profit from each round on, by the models' levels, and where demand is a Markov chain by the round's
        demand. 0 after the last round. No action earns more than the values fall by: the proof.
    policy : (T, levels) or (T, levels, models) int8 array
        What to do there: the model to raise, or −1 to serve the demand.
    reward : (models, levels) float64 array
        As it was asked, NaN where a model has no such level.
    upgrade_cost : (models,) float64 array
        By model.
    """

    objective: float
    upper_bound: float
    served: IntArray | None
    upgraded: IntArray | None
    values: FloatArray
    policy: PolicyTable
    reward: FloatArray
    upgrade_cost: FloatArray

    def follow(self, demand: ArrayLike) -> HorizonRun:
        """Do what the policy says under any demand, from the lowest levels on.

        Parameters
        ----------
        demand : (T,) array_like of int
            Model demanded in each round. A plan that was made for another sequence serves this one in its rounds of
            serving.

        Raises
        ------
        TypeError, ValueError
            If `demand` is not as described, or of another number of rounds.
        """
        n_models, rounds = self.upgrade_cost.shape[0], self.policy.shape[0]
        asked = models_demanded("demand", demand, n_models)
        if asked.shape[0] != rounds:
            raise LolaValueError(
                f"demand must be of {rounds} rounds, as many as were planned, got {asked.shape[0]}; plan for that many"
            )
        return horizon_profit(self.reward, self.upgrade_cost, asked, _upgrades(self.policy, asked, n_models))


def horizon_plan(
    reward: ArrayLike,
    upgrade_cost: ArrayLike,
    demand: ArrayLike | None = None,
    *,
    transition: ArrayLike | None = None,
    initial: ArrayLike | None = None,
    horizon: int | None = None,
) -> HorizonPlan:
    """Choose in each round between raising one model by a level and serving what is demanded, for the most profit.

    All models begin at level 0. Who serves earns what the demanded model pays at its level; who raises a model pays its
    cost, and the demand of that round is lost. As nobody loses by serving, no round is idle.

    Parameters
    ----------
    reward : (models, levels) array_like
        What serving pays by model and level, ≥ 0. Models with fewer levels than others end in NaN.
    upgrade_cost : float or (models,) array_like
        What it costs to raise a model by one level, ≥ 0.
    demand : (T,) array_like of int, optional
        The model demanded in each round, where that is known. Where nobody asks, demand a model that pays 0.
    transition : (models, models) array_like, optional
        Instead of `demand`: how probable each model (column) is after each (row); rows sum to 1.
    initial : (models,) array_like, optional
        How probable each model is in the first round; sums to 1. With `transition`.
    horizon : int, optional
        Number of rounds. With `transition`: what is demanded is known when its round begins, not before.

    Returns
    -------
    HorizonPlan
        The plan for the sequence, or the policy for the Markov chain, and the values that prove it. Of equal actions it
        takes serving, then the model of the lowest index.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the values of all joint levels would take more than 2 GiB.

    Notes
    -----
    Backward induction over the S = Π levels joint levels: O(T·S·models) operations and 9·T·S bytes; both times the
    number of models where demand is a Markov chain. See "Fine-tune or serve" in ``lola docs theory``.

    Examples
    --------
    >>> from lola.solvers import horizon_plan
    >>> plan = horizon_plan([[50.0, 75.0, 100.0]], 50.0, [0] * 8)  # one model that is asked for eight times
    >>> plan.objective, plan.upgraded.tolist()
    (500.0, [0, 0, -1, -1, -1, -1, -1, -1])
    """
    inputs = horizon_inputs(reward, upgrade_cost, demand, transition, initial, horizon)
    values, policy = _backward(inputs)
    objective = inputs.at_first(values[0])
    slack = 2 * inputs.excess(values)[1]  # twice: another machine may add up in another order
    if inputs.demand is None:
        return HorizonPlan(objective, objective + slack, None, None, values, policy, inputs.reward, inputs.cost)
    values, policy = values[..., 0], policy[..., 0]
    upgraded = _upgrades(policy, inputs.demand, inputs.n_models)
    run = horizon_profit(inputs.reward, inputs.cost, inputs.demand, upgraded)
    profit = math.fsum(run.profit)
    return HorizonPlan(profit, profit + slack, run.served, upgraded, values, policy, inputs.reward, inputs.cost)


def horizon_profit(reward: ArrayLike, upgrade_cost: ArrayLike, demand: ArrayLike, upgraded: ArrayLike) -> HorizonRun:
    """Say what a sequence of actions earns, whoever chose them.

    Parameters
    ----------
    reward, upgrade_cost : array_like
        As in `horizon_plan`.
    demand : (T,) array_like of int
        The model demanded in each round.
    upgraded : (T,) array_like of int
        The model raised by one level in each round, −1 where the demand is served.

    Returns
    -------
    HorizonRun
        By round: the model served, the model raised, and the profit.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or a model is raised beyond its last level.

    Examples
    --------
    >>> from lola.solvers import horizon_profit
    >>> run = horizon_profit([[50.0, 75.0]], 50.0, [0, 0, 0], [-1, 0, -1])
    >>> run.profit.tolist(), run.served.tolist()
    ([50.0, -50.0, 75.0], [0, -1, 0])
    """
    pays, cost = pays_and_costs(reward, upgrade_cost)
    asked = models_demanded("demand", demand, cost.shape[0])
    raised = models_demanded("upgraded", upgraded, cost.shape[0], lowest=-1)
    if raised.shape != asked.shape:
        raise LolaValueError(f"upgraded must have {asked.shape[0]} rounds, as many as demand; got {raised.shape[0]}")
    top = (~np.isnan(pays)).sum(axis=1) - 1
    levels, profit = np.zeros(cost.shape[0], np.int64), np.empty(asked.shape[0])
    for t, (model, action) in enumerate(zip(asked, raised, strict=True)):
        if action < 0:
            profit[t] = pays[model, levels[model]]
            continue
        if levels[action] == top[action]:
            raise LolaValueError(
                f"upgraded may raise model {action} to level {top[action]} at most, its last in reward; round {t + 1} "
                "would raise it beyond: serve there, or give reward another level"
            )
        levels[action] += 1
        profit[t] = -cost[action]
    return HorizonRun(np.where(raised < 0, asked, -1), raised, profit)


def _upgrades(policy: PolicyTable, demand: IntArray, n_models: int) -> IntArray:
    """Follow a policy from the lowest levels: the model raised in each round, −1 where one is served."""
    levels, upgraded = [0] * n_models, np.empty(demand.shape[0], np.int64)
    for t, model in enumerate(demand.tolist()):
        place = (t, *levels, model)[: policy.ndim]
        upgraded[t] = action = int(policy[place])
        if action >= 0:
            levels[action] += 1
    return upgraded


def _backward(inputs: HorizonInputs) -> tuple[FloatArray, PolicyTable]:
    """Fill in values (T + 1, levels, demand) and policy (T, levels, demand), from the last round to the first."""
    shape = (*inputs.n_levels, 1 if inputs.transition is None else inputs.n_models)
    n_bytes = inputs.rounds * math.prod(shape) * (np.float64().nbytes + np.int8().nbytes)
    if n_bytes > MOST_BYTES:
        raise LolaValueError(
            f"the values of {math.prod(inputs.n_levels)} joint levels over {inputs.rounds} rounds may take at most "
            f"{MOST_BYTES / 1e9:.3g} GB, got {n_bytes / 1e9:.3g} GB; plan fewer models, levels or rounds"
        )
    values, policy = np.zeros((inputs.rounds + 1, *shape)), np.full((inputs.rounds, *shape), -1, np.int8)
    for t in reversed(range(inputs.rounds)):
        ahead, best = inputs.ahead(values[t + 1]), values[t]
        for column, model in enumerate(inputs.demanded(t)):
            best[..., column] = inputs.pay(model) + ahead[..., column]
        for model, cost in enumerate(inputs.cost):
            lower, higher = next_level(model)
            raised = ahead[higher] - cost
            better = raised > best[lower]
            np.copyto(best[lower], raised, where=better)
            np.copyto(policy[t][lower], model, where=better)
    return values, policy
