"""What a horizon is made of: what models pay by their levels, what raising them costs, and who is asked for when."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lola.solvers.checks import LARGEST, SMALLEST, FloatArray, IntArray, per_block, positive_integer, real_array, vector
from lola.solvers.errors import LolaTypeError, LolaValueError

# numpy has no more than 64 axes: one a model, one of rounds, one of demand.
MOST_MODELS = 60
# How far the sum of probabilities may be from 1: thirds are written with ten digits.
_PROBABILITY_SLACK = 1e-9

PolicyTable = NDArray[np.int8]


class HorizonInputs(NamedTuple):
    """The validated arrays of a horizon."""

    reward: FloatArray  # (models, levels), NaN where a model has no such level
    cost: FloatArray  # (models,)
    demand: IntArray | None  # (T,) model of each round
    transition: FloatArray | None  # (models, models), where there is no sequence
    initial: FloatArray | None  # (models,) alike
    rounds: int

    @property
    def n_models(self) -> int:
        """Number of models."""
        return int(self.cost.shape[0])

    @property
    def n_levels(self) -> tuple[int, ...]:
        """How many levels each model has."""
        return tuple((~np.isnan(self.reward)).sum(axis=1).tolist())

    def demanded(self, t: int) -> range:
        """Return the models that may be demanded in round t, a column of the values each."""
        if self.demand is None:
            return range(self.n_models)
        model = int(self.demand[t])
        return range(model, model + 1)

    def pay(self, model: int) -> FloatArray:
        """Return what serving a model pays by joint levels: an array that broadcasts over those of the others."""
        shape = [1] * self.n_models
        shape[model] = self.n_levels[model]
        return self.reward[model, : shape[model]].reshape(shape)

    def ahead(self, values: FloatArray) -> FloatArray:
        """Return what the next round is expected to bring, from its values by joint levels and its demand."""
        return values if self.transition is None else values @ self.transition.T

    def at_first(self, values: FloatArray) -> float:
        """Return what the first round's values say of the lowest levels, over its demand."""
        first = values[(0,) * self.n_models]
        return float(first[0] if self.initial is None else first @ self.initial)

    def excess(self, values: FloatArray) -> tuple[float, float]:
        """Return by how much actions earn more than the values fall, summed over rounds, and what roundings hide of it.

        The latter counts an action's roundings as far as it is not worse than the values by more than that: an upgrade
        that is too dear to be taken hides nothing.
        """
        part = (self.n_models + 6) * float(np.finfo(np.float64).eps) / 2
        above, most = np.zeros_like(values[0]), []
        for t in reversed(range(self.rounds)):
            ahead, size, more = (self.ahead(array) for array in (values[t + 1], np.abs(values[t + 1]), above))
            now, above, highest = values[t], np.zeros_like(above), 0.0
            arcs: list[tuple[Any, Any, FloatArray]] = [
                ((..., column), (..., column), self.pay(model)) for column, model in enumerate(self.demanded(t))
            ]
            arcs += [(*next_level(model), -cost) for model, cost in enumerate(self.cost)]
            for here, there, brings in arcs:
                earns = brings + ahead[there] - now[here]
                hidden = part * (np.abs(brings) + size[there] + np.abs(now[here]) + more[there])
                highest = max(highest, float((earns - hidden).max(initial=0.0)))
                np.maximum(above[here], np.minimum(earns, hidden) + more[there] + hidden, out=above[here])
            most.append(highest)
        return math.fsum(most), self.at_first(above)


def next_level(model: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a model has a next level, and where it is then."""
    axes = (slice(None),) * model
    return (*axes, slice(-1)), (*axes, slice(1, None))


def horizon_inputs(
    reward: ArrayLike,
    upgrade_cost: ArrayLike,
    demand: ArrayLike | None,
    transition: ArrayLike | None,
    initial: ArrayLike | None,
    horizon: int | None,
) -> HorizonInputs:
    """Validate and cast the arguments of `lola.solvers.horizon_plan`."""
    pays, cost = pays_and_costs(reward, upgrade_cost)
    n_models = cost.shape[0]
    chain = {"transition": transition, "initial": initial, "horizon": horizon}
    missing = [name for name, value in chain.items() if value is None]
    if demand is not None:
        if len(missing) < len(chain):
            superfluous = ", ".join(name for name in chain if name not in missing)
            raise LolaValueError(
                f"demand is a sequence or a Markov chain, got both: drop demand, or {superfluous}, which is of a chain"
            )
        asked = models_demanded("demand", demand, n_models)
        return HorizonInputs(pays, cost, asked, None, None, asked.shape[0])
    if transition is None or initial is None or horizon is None:
        raise LolaValueError(
            f"demand must be a sequence, or a Markov chain by transition, initial and horizon; missing: "
            f"{', '.join(['demand'] if len(missing) == len(chain) else missing)}"
        )
    rounds = positive_integer("horizon", horizon)
    after = real_array("transition", transition, 2)
    if after.shape != (n_models, n_models):
        raise LolaValueError(
            f"transition must have shape ({n_models}, {n_models}), from model to model; got {after.shape}"
        )
    after = np.array([_probabilities(f"transition[{model}]", row, n_models) for model, row in enumerate(after)])
    return HorizonInputs(pays, cost, None, after, _probabilities("initial", initial, n_models), rounds)


def pays_and_costs(reward: ArrayLike, upgrade_cost: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Validate what models pay by level, NaN beyond the levels that they have, and what raising them costs."""
    pays = real_array("reward", reward, 2)
    n_models = pays.shape[0]
    if pays.size == 0:
        raise LolaValueError(f"reward is empty, shape {pays.shape}; at least one model with one level is needed")
    if n_models > MOST_MODELS:
        raise LolaValueError(f"reward may be of at most {MOST_MODELS} models, got {n_models}; leave some out")
    known = ~np.isnan(pays)
    gaps = np.flatnonzero(~known[:, 0] | (known[:, 1:] & ~known[:, :-1]).any(axis=1))
    if gaps.size:
        raise LolaValueError(
            f"reward must begin with level 0 and have NaN only beyond a model's last level, got {pays[gaps[0]]} for "
            f"model {gaps[0]}; fill the gap"
        )
    outside = known & ~((pays == 0) | ((pays >= SMALLEST) & (pays <= LARGEST)))
    if outside.any():
        model, level = np.argwhere(outside)[0]
        raise LolaValueError(
            f"reward must be >= 0 (zero or from 1e-50 to 1e50), so that serving never loses; got {pays[model, level]} "
            f"for model {model} at level {level}; correct it"
        )
    cost = vector(
        "upgrade_cost", per_block("upgrade_cost", upgrade_cost, n_models), ("reward", pays[:, 0]), positive=False
    )
    return pays, cost


def models_demanded(name: str, value: ArrayLike, n_models: int, lowest: int = 0) -> IntArray:
    """Cast to a vector of indices of models, or say which entry is none."""
    array = np.asarray(value)
    if array.ndim != 1 or array.shape[0] == 0:
        raise LolaValueError(
            f"{name} must hold at least one round, and one entry for each; got shape {array.shape}; list the rounds"
        )
    if array.dtype.kind not in "iu":
        raise LolaTypeError(f"{name} must hold indices of models, got dtype {array.dtype}; give integers")
    outside = np.flatnonzero((array < lowest) | (array >= n_models))
    if outside.size:
        raise LolaValueError(
            f"{name} must hold models from {lowest} to {n_models - 1}, got {array[outside[0]]} in round "
            f"{outside[0] + 1}; correct it"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def _probabilities(name: str, value: ArrayLike, n_models: int) -> FloatArray:
    """Check probabilities; return them with the sum 1, which they may miss by what was rounded off."""
    array = real_array(name, value, 1)
    if array.shape[0] != n_models:
        raise LolaValueError(f"{name} must have {n_models} entries, one a model; got {array.shape[0]}")
    total = math.fsum(array)
    if not ((array >= 0).all() and abs(total - 1) <= _PROBABILITY_SLACK):
        raise LolaValueError(f"{name} must be probabilities, >= 0 with the sum 1, got the sum {total:.10g}; correct it")
    return array / total
