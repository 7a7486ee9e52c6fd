"""Fine-tune or serve, round by round: the question, what simpler rules answer, and the check of an answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.fleet import distinct_names
from lola.proofs.checks import ROUNDING, check_sane
from lola.solvers.checks import FloatArray, IntArray, check_array, frozen, require, seed_number, shown
from lola.solvers.errors import LolaValueError
from lola.solvers.horizon_inputs import HorizonInputs, horizon_inputs, next_level

if TYPE_CHECKING:
    from lola.solvers.horizon import HorizonPlan, HorizonRun

_log = logging.getLogger(__name__)
# A plan is optimal if its bound is above its profit by at most this part of all that it earns and pays.
_OPTIMAL = 1e-9


@dataclass(frozen=True, eq=False, init=False)
class HorizonProblem:
    """Models that can be improved or served with, one of them in each round, and who asks for which.

    Parameters
    ----------
    reward : sequence of sequences of float
        For each model what serving pays at its levels, the lowest first, ≥ 0. Models may differ in their levels.
    upgrade_cost : float or (models,) array_like
        What it costs to fine-tune a model to its next level, ≥ 0.
    demand : sequence of int or str, optional
        The model that each round asks for, by index or name.
    name : sequence of str, optional
        Distinct names, one a model.
    transition, initial, horizon : optional
        Instead of `demand`, a Markov chain: how probable each model is after each, (models, models), and in the first
        round, (models,); and the number of rounds.

    Raises
    ------
    TypeError, ValueError
        If the arguments are not as described; the message names the first offender.

    Examples
    --------
    >>> import lola
    >>> problem = lola.HorizonProblem([[50, 75, 100], [60]], 50, ["chat"] * 6 + ["code"], name=["chat", "code"])
    >>> plan = problem.plan()
    >>> problem.verify(plan)  # silent: no plan earns more
    >>> plan.objective, float(problem.immediate(problem.demand).profit.sum())
    (385.0, 360.0)
    """

    name: tuple[str, ...] | None
    inputs: HorizonInputs

    def __init__(
        self,
        reward: Sequence[Sequence[float]] | FloatArray,
        upgrade_cost: ArrayLike,
        demand: Iterable[int | str] | None = None,
        *,
        name: Iterable[str] | None = None,
        transition: ArrayLike | None = None,
        initial: ArrayLike | None = None,
        horizon: int | None = None,
    ) -> None:
        pays = _padded(reward)
        names = None if name is None else distinct_names("model", name, len(pays))
        asked = None if demand is None else [_index(model, names) for model in demand]
        object.__setattr__(self, "name", names)
        checked = horizon_inputs(pays, upgrade_cost, asked, transition, initial, horizon)
        kept = HorizonInputs(
            frozen(checked.reward),
            frozen(checked.cost),
            None if checked.demand is None else frozen(checked.demand),
            None if checked.transition is None else frozen(checked.transition),
            None if checked.initial is None else frozen(checked.initial),
            checked.rounds,
        )
        object.__setattr__(self, "inputs", kept)

    @property
    def demand(self) -> IntArray | None:
        """The model that each round asks for, (T,); None where demand is a Markov chain."""
        return self.inputs.demand

    def label(self, model: int) -> str:
        """Name of a model, or its number where they have no names."""
        return f"model {model}" if self.name is None else self.name[model]

    def plan(self) -> HorizonPlan:
        """Find the plan of the most profit, with its proof: `lola.solvers.horizon_plan`."""
        from lola.solvers.horizon import horizon_plan

        reward, cost, demand, transition, initial, rounds = self.inputs
        horizon = None if transition is None else rounds
        return horizon_plan(reward, cost, demand, transition=transition, initial=initial, horizon=horizon)

    def draw_demand(self, seed: int = 0) -> IntArray:
        """Return the demand, (T,), or draw one of the Markov chain."""
        inputs = self.inputs
        if inputs.transition is None or inputs.initial is None:
            assert inputs.demand is not None
            return inputs.demand
        rng = np.random.default_rng((seed_number("seed", seed), 0))
        cumulated = np.cumsum(inputs.transition, axis=1)
        model = int(np.searchsorted(np.cumsum(inputs.initial), rng.random(), side="right"))
        drawn = [min(model, inputs.n_models - 1)]  # probabilities may sum to a little less than 1
        for _ in range(inputs.rounds - 1):
            model = int(np.searchsorted(cumulated[drawn[-1]], rng.random(), side="right"))
            drawn.append(min(model, inputs.n_models - 1))
        return np.array(drawn)

    def immediate(self, demand: ArrayLike) -> HorizonRun:
        """Take the most profit of each round alone: always serve, as no fine-tuning pays at once."""
        from lola.solvers.horizon import horizon_profit

        return horizon_profit(self.inputs.reward, self.inputs.cost, demand, np.full(np.shape(demand), -1))

    def random(self, demand: ArrayLike, seed: int = 0) -> HorizonRun:
        """Choose among serving and fine-tuning each model that has a next level, all equally likely."""
        from lola.solvers.horizon import horizon_profit

        rng, levels = np.random.default_rng((seed_number("seed", seed), 1)), [0] * self.inputs.n_models
        upgraded = np.full(np.shape(demand), -1)
        for t in range(upgraded.size):
            possible = [-1] + [m for m, count in enumerate(self.inputs.n_levels) if levels[m] + 1 < count]
            upgraded[t] = action = possible[int(rng.integers(len(possible)))]
            if action >= 0:
                levels[action] += 1
        return horizon_profit(self.inputs.reward, self.inputs.cost, demand, upgraded)

    def verify(self, plan: HorizonPlan) -> None:
        """Check a plan by comparisons and sums: that it earns what it says, and that no plan earns more.

        Raises
        ------
        lola.VerificationError
            Naming the first line that fails.

        Notes
        -----
        ``lola docs theory``, "Fine-tune or serve".
        """
        for name, own in (("reward", self.inputs.reward), ("upgrade_cost", self.inputs.cost)):
            same = np.array_equal(getattr(plan, name), own, equal_nan=True)
            require(same, "problem", f"the plan's {name} is of another problem")
        values, policy = _tables(plan, self.inputs)
        earned, turnover = _earned(policy, self.inputs)
        require(
            abs(earned - plan.objective) <= ROUNDING * turnover,
            "profit",
            f"the policy earns {earned:.17g}, the plan says {plan.objective:.17g}",
        )
        self._check_sequence(plan)
        require(float(values[-1].min()) >= 0, "proof", "a value after the last round is below 0")
        excess, hidden = self.inputs.excess(values)
        bound = math.fsum([self.inputs.at_first(values[0]), excess, hidden])
        require(
            bound <= plan.upper_bound,
            "proof",
            f"no plan is shown to earn more than {bound:.17g}, the bound says {plan.upper_bound:.17g}",
        )
        # An upgrade that pays just what it costs has roundings, too, where the plan earns and pays nothing.
        tied = min(2 * hidden, _OPTIMAL * self.inputs.rounds * float(np.nanmax(self.inputs.reward)))
        require(
            plan.objective <= plan.upper_bound <= plan.objective + _OPTIMAL * turnover + tied,
            "bound",
            f"the profit {plan.objective:.17g} is not the bound {plan.upper_bound:.17g}",
        )
        _log.info("verified a plan of %d rounds, profit %.6g", self.inputs.rounds, plan.objective)

    def __repr__(self) -> str:
        return f"<HorizonProblem of {self.inputs.n_models} models, {self.inputs.rounds} rounds>"

    def _check_sequence(self, plan: HorizonPlan) -> None:
        if self.demand is None:
            require(plan.served is None and plan.upgraded is None, "shape", "served and upgraded are of a sequence")
            return
        for name in ("served", "upgraded"):
            check_array("shape", name, getattr(plan, name), np.int64, self.inputs.rounds)
        assert plan.served is not None
        assert plan.upgraded is not None
        levels, total = [0] * self.inputs.n_models, []
        for t, (asked, served, raised) in enumerate(
            zip(self.demand.tolist(), plan.served.tolist(), plan.upgraded.tolist(), strict=True), start=1
        ):
            require(
                (served, raised) == (asked, -1) or served == -1, "actions", f"round {t} serves what nobody asks for"
            )
            if served >= 0:
                total.append(float(self.inputs.reward[asked, levels[asked]]))
                continue
            beyond = not 0 <= raised < len(levels) or levels[raised] + 1 >= self.inputs.n_levels[raised]
            require(not beyond, "actions", f"round {t} raises model {raised}, which has no next level")
            levels[raised] += 1
            total.append(-float(self.inputs.cost[raised]))
        earned = math.fsum(total)
        require(
            abs(earned - plan.objective) <= ROUNDING * math.fsum(map(abs, total)),
            "profit",
            f"the rounds earn {earned:.17g}, the plan says {plan.objective:.17g}",
        )


def _padded(reward: Sequence[Sequence[float]] | FloatArray) -> FloatArray | list[list[float]]:
    """Make models of differing levels one array, with NaN for the levels that they lack."""
    if isinstance(reward, np.ndarray):
        return reward
    rows = [[*row] if isinstance(row, list | tuple | np.ndarray) else [row] for row in reward]
    longest = max(map(len, rows), default=0)
    return [[*row, *[math.nan] * (longest - len(row))] for row in rows]


def _index(model: Any, names: tuple[str, ...] | None) -> Any:
    if isinstance(model, str):
        if names is None or model not in names:
            known = "they have no names" if names is None else f"known are {', '.join(map(shown, names))}"
            raise LolaValueError(f"demand must name models, got {shown(model)}; {known}")
        return names.index(model)
    return model


def _tables(plan: HorizonPlan, inputs: HorizonInputs) -> tuple[FloatArray, IntArray]:
    """Check the shapes of values and policy, and give them an axis of demand each."""
    shape = inputs.n_levels if inputs.transition is None else (*inputs.n_levels, inputs.n_models)
    check_array("shape", "values", plan.values, np.float64, (inputs.rounds + 1, *shape))
    check_array("shape", "policy", plan.policy, np.int8, (inputs.rounds, *shape))
    for name in ("objective", "upper_bound"):
        value = getattr(plan, name)
        require(isinstance(value, float) and math.isfinite(value), "shape", f"{name} must be a finite float")
    check_sane("value", plan.values)
    if inputs.transition is None:
        return plan.values[..., None], plan.policy[..., None].astype(np.int64)
    return plan.values, plan.policy.astype(np.int64)


def _earned(policy: IntArray, inputs: HorizonInputs) -> tuple[float, float]:
    """Add up, from the last round to the first, what the policy is expected to earn, and all that it earns or pays."""
    profit, turnover = np.zeros((2, *policy.shape[1:]))
    for t in reversed(range(inputs.rounds)):
        ahead, moved, action = inputs.ahead(profit), inputs.ahead(turnover), policy[t]
        profit, turnover = np.full((2, *action.shape), np.nan)
        for column, model in enumerate(inputs.demanded(t)):
            at, serves = (..., column), action[..., column] == -1
            np.copyto(profit[at], inputs.pay(model) + ahead[at], where=serves)
            np.copyto(turnover[at], inputs.pay(model) + moved[at], where=serves)
        for model, cost in enumerate(inputs.cost):
            here, there = next_level(model)
            np.copyto(profit[here], ahead[there] - cost, where=action[here] == model)
            np.copyto(turnover[here], moved[there] + cost, where=action[here] == model)
        require(not np.isnan(profit).any(), "policy", f"round {t + 1} raises a model that has no next level")
    return inputs.at_first(profit), inputs.at_first(turnover)
