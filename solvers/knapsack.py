"""Devices that share a spectrum: a knapsack, by dynamic programming over value where a price leaves a choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lola.solvers.checks import (
    LARGEST,
    SMALLEST,
    FloatArray,
    IntArray,
    check_array,
    check_number,
    check_price,
    frozen,
    positive_number,
    real_array,
    require,
)
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.solvers.knapsack_tables import add, best_set, least_need, least_need_in_integers

# A sum of rounded products may be too low by so much.
_ROUNDING = 1e-12
# What the least needs may take, with what was decided for each device.
MOST_BYTES = 1 << 28
# What one total takes in Python's integers.
_TOTAL_BYTES = 512


@dataclass(frozen=True, eq=False)
class DeviceSelection:
    """Devices of most value that share the spectrum, and the price that bounds what any could be worth.

    Attributes
    ----------
    selected : (n,) int64 array
        Devices, rising.
    objective : int
        The sum of their values.
    price : float
        Value per hertz, at least 0, that gives the bound: the best of all prices.
    upper_bound : int
        No devices are worth more: the price of the spectrum, and what devices are worth beyond theirs, rounded down
        (Dantzig's bound). Often the objective.
    """

    selected: IntArray
    objective: int
    price: float
    upper_bound: int

    def verify(self, value: ArrayLike, need_hz: ArrayLike, bandwidth_hz: float) -> None:
        """Check by comparisons and sums that the devices fit and are worth what is said, and that none are worth more.

        Where the objective is below `upper_bound`, that it is the optimum is the word of the algorithm; that nothing
        is above the bound is shown in any case.

        Parameters
        ----------
        value, need_hz, bandwidth_hz
            As given to `device_selection`.

        Raises
        ------
        VerificationError
            If anything does not hold; the message says what.
        TypeError, ValueError
            If an argument is not as described.
        """
        devices = _devices(value, need_hz, bandwidth_hz)
        chosen = self.selected
        check_array("selected", "it", chosen, np.int64, None)
        fits = np.isin(chosen, np.arange(devices.value.size)).all() and (np.diff(chosen) > 0).all()
        require(fits, "selected", f"distinct devices are wanted, rising, got {chosen}")
        need = math.fsum(devices.need[chosen])
        require(need <= devices.bandwidth, "bandwidth", f"the devices need {need:.17g} Hz, more than {bandwidth_hz}")
        worth = int(devices.value[chosen].sum())
        require(worth == self.objective, "objective", f"the devices are worth {worth}, not {self.objective}")
        check_price(self.price)
        check_number("proof", self.upper_bound)
        bound = math.floor(devices.bound(self.price))
        require(bound <= self.upper_bound, "proof", f"the price only shows {bound}, not {self.upper_bound}")


def device_selection(value: ArrayLike, need_hz: ArrayLike, bandwidth_hz: float) -> DeviceSelection:
    """Choose devices that are worth most in all and fit into the spectrum together.

    Maximises Σ_k value_k·x_k subject to Σ_k need_k·x_k ≤ bandwidth, x_k 0 or 1. Where devices with a low score make new
    prompts in a round (Wu, Chen, Huang, "Device-edge cooperative fine-tuning", section 5.2), a device's value is how
    many answers were wrong, and its need S/(r_k·(T − J_k)): what it takes to upload S bits by T.

    Parameters
    ----------
    value : (K,) array_like of int
        ≥ 0; their sum up to 2**53.
    need_hz : (K,) array_like
        Hertz that each needs, > 0; infinite for a device that cannot.
    bandwidth_hz : float
        Hertz that all share.

    Returns
    -------
    DeviceSelection
        The optimum. Devices without value are not selected.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or values are so large and so many that the table of totals, and that of
        sets of devices, would take more than 256 MiB.

    Notes
    -----
    The price is the value per hertz of the first device that the rule "value per hertz" leaves out. Devices whose value
    is so far from their price that going against it could not beat what is known are settled; for the others least
    hertz are found for each total value, in O(K·V) for K such devices of total value V, counted in the largest unit of
    their values; or all sets of them are gone through, where that takes less memory. Needs are added up as if in exact
    numbers and rounded once, as `math.fsum` does. See "Devices that share a spectrum" in ``lola docs theory``.

    Examples
    --------
    >>> from lola.solvers import device_selection
    >>> chosen = device_selection([7, 4, 4], [3e6, 2e6, 2e6], 4e6)  # the first is worth most, and most per hertz
    >>> chosen.selected.tolist(), chosen.objective, chosen.upper_bound
    ([1, 2], 8, 9)
    """
    devices = _devices(value, need_hz, bandwidth_hz)
    usable = np.flatnonzero((devices.value > 0) & (devices.need <= devices.bandwidth))
    worth, need = devices.value[usable], devices.need[usable]
    taken = _take_in_order(np.argsort(-(worth / need), kind="stable"), need, devices.bandwidth)
    price = _critical_price(worth, need, devices.bandwidth)
    bound = devices.bound(price)
    selected = _improve(worth, need, devices.bandwidth, price, bound, taken)
    return DeviceSelection(frozen(usable[selected]), int(worth[selected].sum()), price, math.floor(bound))


def greedy_selection(priority: ArrayLike, need_hz: ArrayLike, bandwidth_hz: float) -> IntArray:
    """Choose devices one after the other, those of highest priority first, as long as each fits.

    With value per hertz as priority this is the article's rule "score times rate"; with the value alone, or with
    1 / need_hz, the scheduler looks at the score or at the channel only.

    Parameters
    ----------
    priority : (K,) array_like
        Of equal ones the first device comes first.
    need_hz, bandwidth_hz
        As in `device_selection`.

    Returns
    -------
    (n,) int64 array
        Devices, rising. By value per hertz they miss `device_selection`'s bound by less than the value of one device,
        which may be nearly all: of values 1 and 100 that need 1 and 101 of 101 Hz it takes the first.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from lola.solvers import greedy_selection
    >>> greedy_selection([7 / 3e6, 4 / 2e6, 4 / 2e6], [3e6, 2e6, 2e6], 4e6).tolist()  # the optimum is 1 and 2
    [0]
    """
    need = _needs(need_hz)
    order = real_array("priority", priority, 1)
    unknown = int(np.isnan(order).sum())
    if order.shape != need.shape or unknown:
        raise LolaValueError(
            f"priority must hold {need.size} numbers, as many as need_hz, got {order.size}, {unknown} of them NaN; "
            "give each device one"
        )
    bandwidth = positive_number("bandwidth_hz", bandwidth_hz)
    return np.sort(_take_in_order(np.argsort(-order, kind="stable"), need, bandwidth))


class _Devices(NamedTuple):
    value: IntArray
    need: FloatArray
    bandwidth: float

    def bound(self, price: float) -> float:
        """Return what no devices that fit together are worth more than, at any price >= 0."""
        able = self.need <= self.bandwidth
        beyond = self.value[able] - price * self.need[able]
        return math.fsum([price * self.bandwidth, *beyond[beyond > 0]]) * (1 + _ROUNDING)


def _devices(value: ArrayLike, need_hz: ArrayLike, bandwidth_hz: float) -> _Devices:
    """Validate and cast the arguments."""
    need = _needs(need_hz)
    try:
        worth = np.asarray(value)
    except ValueError as error:
        raise LolaTypeError(f"value must be an array of integers, one a device; numpy says: {error}") from None
    if worth.dtype.kind not in "iu":
        whole = worth.dtype.kind == "f" and np.isfinite(worth).all() and (worth == np.floor(worth)).all()
        mend = "give them as integers, by astype(int)" if whole else "count in smaller units, and round"
        raise LolaTypeError(f"value must hold integers, got dtype {worth.dtype}; {mend}")
    if worth.shape != need.shape:
        raise LolaValueError(f"value must have {need.size} entries, as many as need_hz; got shape {worth.shape}")
    if int(worth.min()) < 0 or sum(worth.tolist()) > 2**53:
        raise LolaValueError(
            f"value must be >= 0 with a sum up to 2**53, got from {worth.min()} to {worth.max()}; leave out devices "
            "that are worth nothing, or count in larger units"
        )
    return _Devices(worth.astype(np.int64), need, positive_number("bandwidth_hz", bandwidth_hz))


def _needs(need_hz: ArrayLike) -> FloatArray:
    need = real_array("need_hz", need_hz, 1)
    inside = ((need >= SMALLEST) & (need <= LARGEST)) | (need == np.inf)
    if need.size == 0 or not inside.all():
        got = f"{need[~inside][0]} at index {int(np.argmin(inside))}" if need.size else "none"
        raise LolaValueError(
            f"need_hz must hold numbers > 0 (from 1e-50 to 1e50, inf for a device that cannot), got {got}; correct it"
        )
    return need


def _take_in_order(order: IntArray, need: FloatArray, bandwidth: float) -> IntArray:
    """Return the devices of an order, each of which fits after those before it that did."""
    able = order[need[order] <= bandwidth]
    units, room = in_units(need[able], bandwidth)
    taken = []
    for device, more in zip(able.tolist(), units, strict=True):
        if more <= room:
            room -= more
            taken.append(device)
    return np.array(taken, dtype=np.int64)


def in_units(need: FloatArray, bandwidth: float) -> tuple[list[int], int]:
    """Return needs as whole multiples of some unit, and the largest sum that rounds to the bandwidth or less."""
    tie = (Fraction(bandwidth) + Fraction(math.nextafter(bandwidth, math.inf))) / 2
    ratios = [each.as_integer_ratio() for each in need.tolist()]
    finest = max([tie.denominator, *(denominator for _, denominator in ratios)])  # all are powers of two
    most = int(tie * finest) - (float(tie) > bandwidth)
    return [numerator * (finest // denominator) for numerator, denominator in ratios], most


def _critical_price(value: IntArray, need: FloatArray, bandwidth: float) -> float:
    """Return the value per hertz of the first device beyond which the linear program takes nothing; 0 if all fit."""
    ratio = value / need
    order = np.argsort(-ratio, kind="stable")
    beyond = np.flatnonzero(np.cumsum(need[order]) > bandwidth)
    return float(ratio[order[beyond[0]]]) if beyond.size else 0.0


def _improve(
    value: IntArray, need: FloatArray, bandwidth: float, price: float, bound: float, taken: IntArray
) -> IntArray:
    """Return devices that are worth most of all, rising, given some that fit, a price and its bound."""
    least = int(value[taken].sum())
    margin = value - price * need
    # Totals are integers: whoever goes against the price by so much leaves no more than the total that is known.
    settled = bound - np.abs(margin) < least + 1
    if bound < least + 1:
        return np.sort(taken)
    held = np.flatnonzero(settled & (margin > 0))
    free = np.flatnonzero(~settled)
    sure = int(value[held].sum())
    unit = max(int(np.gcd.reduce(value[free])), 1)
    total = max(min(int(value[free].sum()), math.floor(bound) - sure), 0) // unit
    of_totals, of_sets = free.size * (total // 8 + 1) + 16 * (total + 1), 24 << free.size
    # Where no need is below 2⁻⁴⁹ of the bandwidth, pairs of numbers hold every bit of the sums.
    far_apart = bandwidth > 2.0**102 * np.spacing(need[np.concatenate([held, free])].min(initial=bandwidth))
    if far_apart:
        of_totals = of_sets = _TOTAL_BYTES * min(total + 1, 1 << free.size)
    if min(of_totals, of_sets) > MOST_BYTES:
        raise LolaValueError(
            f"value: a table of {free.size} devices and {total + 1} totals may take at most {MOST_BYTES / 1e6:.3g} MB, "
            f"got {of_totals / 1e6:.3g} MB; count value in larger units, or ask for fewer devices"
        )
    start = 0.0, 0.0
    for more in need[held].tolist():
        start = add(*start, more)
    if far_apart:
        units, room = in_units(need, bandwidth)
        of_held, of_free = sum(units[k] for k in held), [units[k] for k in free]
        best, chosen = least_need_in_integers((value[free] // unit).tolist(), of_free, room, of_held)
    elif of_sets < of_totals:
        best, chosen = best_set(value[free] // unit, need[free], bandwidth, *start)
    else:
        best, chosen = least_need(value[free] // unit, need[free], bandwidth, *start, total)
    if best < 0 or sure + best * unit <= least:
        return np.sort(taken)
    return np.sort(np.concatenate([held, free[chosen]]))
