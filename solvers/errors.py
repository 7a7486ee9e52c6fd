"""What lola raises where something is wrong with what it was given, and where a problem has no solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class LolaError(Exception):
    """Something a user can mend: bad input, a problem without a solution, a schedule that does not hold.

    What is wrong with a value or a type is a ValueError or a TypeError as well.
    """


class LolaValueError(LolaError, ValueError):
    """An argument, an option or a file holds what cannot be; the message says what was wanted and how to mend it."""


class LolaTypeError(LolaError, TypeError):
    """An argument is of a type that cannot be; the message says what was wanted."""


class InfeasibleError(LolaError):
    """No assignment exists; the attributes hold a Hall violator that proves it.

    Attributes
    ----------
    violator : tuple of int
        Indices of the rows (columns where a matrix has more rows than columns; blocks, index 0 being depth 1, in an
        allocation) that together have fewer partners than members. Empty where devices may take several blocks and no
        set of blocks proves it.
    partners : int
        How many columns (rows; devices) can serve any of them. ``partners < len(violator)`` unless that is empty.
    bytes_needed : float or None
        For an allocation, the least memory that any block of the violator needs.
    """

    def __init__(self, message: str, violator: Sequence[int], partners: int, bytes_needed: float | None = None) -> None:
        super().__init__(message)
        self.violator = tuple(int(i) for i in violator)
        self.partners = partners
        self.bytes_needed = bytes_needed

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.args[0], self.violator, self.partners, self.bytes_needed)

    @property
    def depths(self) -> tuple[int, ...]:
        """The violator as depths: 1 is the block nearest the output."""
        return tuple(i + 1 for i in self.violator)


class VerificationError(LolaError):
    """A schedule does not hold; the message names the first line that fails."""


class TimeLimitError(LolaValueError):
    """A solver was stopped by its time limit before it had proven anything; the message says what may help."""


def infeasible_allocation(
    blocks: np.ndarray, memory_needed: np.ndarray, memory_offered: np.ndarray, allowed: np.ndarray | None
) -> InfeasibleError:
    """Word the error for a Hall violator of blocks (their indices), counting the devices that can serve any of them."""
    able = memory_offered < 0
    for block in blocks:
        able |= (memory_offered >= memory_needed[block]) & (True if allowed is None else allowed[:, block])
    n_able = int(able.sum())
    needed = float(memory_needed[blocks].min())
    depths = ", ".join(str(b + 1) for b in blocks)
    permitted = "" if allowed is None else " and may take one of them, pinned and forbidden pairs heeded"
    relax = "" if allowed is None else "drop a pinned or forbidden pair, "
    message = (
        f"no schedule exists: depth(s) {depths} need {len(blocks)} device(s), but {n_able} of "
        f"{memory_offered.shape[0]} offer at least {needed:.6g} bytes{permitted}; "
        f"the most that any offers is {memory_offered.max():.6g}. "
        f"Add devices, free memory on them, {relax}or lower what a depth needs (smaller batch or sequence)."
    )
    return InfeasibleError(message, tuple(blocks), n_able, needed)


def infeasible_segments(held: np.ndarray, most: np.ndarray, longest: int, pairs: bool) -> InfeasibleError:
    """Word the error where no selection of segments exists; the violator is empty where no set of blocks proves it.

    Parameters
    ----------
    held : (L,) bool array
        Whether any device could take a segment with the block.
    most : (K,) int64 array
        Blocks of the longest segment that each device could take.
    longest : int
        The most blocks that any may take.
    pairs : bool
        Whether some pairs of device and depth are ruled out.
    """
    (nobody,) = (~held).nonzero()
    longer = "allow longer segments (max_blocks), " if longest < held.size else ""
    relax = "drop a pinned or forbidden pair, " if pairs else ""
    mend = f"Free memory on the devices, add some, {longer}{relax}or lower what a depth needs."
    heeded = ", pinned and forbidden pairs heeded" if pairs else ""
    if nobody.size:
        depths = ", ".join(str(block + 1) for block in nobody)
        reason = f"no device can take depth(s) {depths}{heeded}"
        return InfeasibleError(f"no schedule exists: {reason}. {mend}", tuple(nobody), 0)
    if most.sum() < held.size:
        reason = f"the devices can take {most.sum()} block(s) in all, and there are {held.size}"
    else:
        reason = (
            f"{(most > 0).sum()} device(s) can take something, but no way to deal out the {held.size} blocks fits them"
        )
    return InfeasibleError(f"no schedule exists: {reason}{heeded}. {mend}", (), 0)


def undecided_segments() -> LolaValueError:
    """Word the error where segments were neither allocated nor shown to be impossible."""
    return LolaValueError(
        "segments: neither an allocation nor a proof that there is none was found within the paths and states allowed; "
        "lower max_blocks, leave subcarrier_hz out, or ask lola.solvers.oracle.segment_milp"
    )


def infeasible_chain(
    need: np.ndarray,
    together: float,
    offered: np.ndarray,
    alone: np.ndarray,
    reached: np.ndarray,
    start: int | None,
    ordered: bool,
) -> InfeasibleError:
    """Word the error where no chain of clients holds all modules; the violator is empty where no module proves it.

    Parameters
    ----------
    need, offered : (N,), (K,) float64 array
        Bytes of each module, were it alone, and of each client.
    together : float
        Bytes of all modules, in the stages that need least.
    alone : (K, N) bool array
        Whether a client could hold a module, and nothing else.
    reached : (K,) bool array
        Clients that links, one after the other, lead to from one that may hold the first stage, and they themselves.
    start : int or None
        Who must hold the first stage.
    ordered : bool
        Whether clients must appear in an order.
    """
    (nobody,) = (~alone.max(axis=0)).nonzero()
    (cut_off,) = (~reached).nonzero()
    of_order = " of the order" if ordered else ""
    mend = "free memory on the clients, add some, or make modules smaller (smaller batch or sequence)"
    if nobody.size:
        modules = ", ".join(str(module) for module in nobody)
        reason = (
            f"no client{of_order} has the memory for module(s) {modules}, which need at least "
            f"{need[nobody].min():.6g} bytes; the most that any offers is {offered.max():.6g}"
        )
        return InfeasibleError(f"no chain exists: {reason}; {mend}.", tuple(nobody), 0, float(need[nobody].min()))
    usable = float(offered[alone.any(axis=1)].sum())
    if usable < together:
        reason = f"the modules need {together:.6g} bytes, all clients{of_order} together offer {usable:.6g}"
        return InfeasibleError(f"no chain exists: {reason}; {mend}.", (), 0)
    if start is not None and not alone[start, 0]:
        reason = (
            f"client {start}, the start, must hold module 0, which needs {need[0]:.6g} bytes, and offers "
            f"{offered[start]:.6g}"
        )
        return InfeasibleError(f"no chain exists: {reason}; free memory on it, or start elsewhere.", (0,), 0, need[0])
    if start is not None and cut_off.size:
        unreached = ", ".join(str(client) for client in cut_off)
        reason = f"client(s) {unreached} cannot be reached from the start, client {start}, and without them none fits"
        return InfeasibleError(f"no chain exists: {reason}; add links (both ways where bits return), or {mend}.", (), 0)
    reason = f"links and memory leave no way to cut the {need.size} modules among the {offered.size} clients{of_order}"
    return InfeasibleError(f"no chain exists: {reason}; add links, or {mend}.", (), 0)


def undecided_chains() -> LolaValueError:
    """Word the error where no chain was found, nor shown that there is none."""
    return LolaValueError(
        "chains: neither a chain nor a proof that there is none was found among so many clients; leave some out, give "
        "them an order, or ask lola.solvers.oracle.chain_cp"
    )


def infeasible_clusters(formed: str, able: int, count: int, hopeless: np.ndarray) -> InfeasibleError:
    """Word the error where so many disjoint chains cannot be: the number that can be, in words, and who begins none."""
    reason = f"{formed} disjoint chain(s) can be formed, {count} are wanted: cluster {able + 1} cannot be formed"
    if hopeless.size:
        reason += f"; no chain at all begins with client(s) {', '.join(map(str, hopeless))}"
    mend = "ask for fewer clusters, free memory, add links, or let more clients begin (starts, order)"
    return InfeasibleError(f"no clusters exist: {reason}; {mend}.", (), able)


def undecided_clusters() -> LolaValueError:
    """Word the error where clusters were neither found nor shown to be impossible."""
    return LolaValueError(
        "clusters: neither so many disjoint chains nor a proof that there are none was found; ask for fewer clusters "
        "(n_clusters), let more clients begin (starts), or leave all but 14 clients out, among whom it is settled"
    )
