"""The methods, each in one entry of one table: how it solves, what it proves, and what it cannot heed.

To add one, add its entry here: `lola.schedule`, verification, files, simulations, figures and the command know it then.
A new kind of proof is a class in `lola.proofs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lola.methods.baselines import BASELINES
from lola.methods.limits import equal_uploads, no_pairs, no_subcarriers, rising_uploads
from lola.methods.method import Method, Style
from lola.methods.solving import ba, ba_crunch, dual_ascent, jbba, jbba_rounds, one_by_one
from lola.proofs.hall import HallProof
from lola.proofs.multipliers import MultiplierProof
from lola.proofs.potentials import PotentialProof
from lola.proofs.prices import PriceProof
from lola.solvers.checks import meant, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    METHODS: tuple[str, ...]


def method_named(name: object) -> Method:
    """Return a method of the table.

    Raises
    ------
    LolaValueError
        If there is none of that name; the message names all.
    """
    if not isinstance(name, str) or name not in BY_NAME:
        raise LolaValueError(f"a method must be one of {', '.join(BY_NAME)}; got {shown(name)}{meant(name, BY_NAME)}")
    return BY_NAME[name]


def listed_methods(names: object) -> list[Method]:
    """Return different methods of the table, at least one, by a list of their names."""
    if isinstance(names, str):
        raise LolaValueError(f"methods must be different methods in a list, such as [{names!r}]; got one text")
    if not isinstance(names, Iterable):
        raise LolaTypeError(f"methods must be a list of methods, such as ['jbba']; got {shown(names)}")
    listed = list(names)
    if not listed or len(set(map(str, listed))) < len(listed):
        raise LolaValueError(f"methods must be different methods, at least one; got {shown(names)}")
    return [method_named(name) for name in listed]


_LISTED = (
    Method(
        "jbba",
        "blocks and bandwidth together, optimal (P2, Theorem 2); where a device may take several blocks, too (P3, "
        "Theorem 5).",
        jbba,
        PriceProof,
        segment_proof=PotentialProof,
        joint=True,
        exact=True,
        solve_rounds=jbba_rounds,
        style=Style("#35618f", "o", "-"),
    ),
    Method(
        "jbba-dual-ascent",
        "the same as published, Algorithm 3: not optimal, and with a loose bound.",
        dual_ascent,
        MultiplierProof,
        joint=True,
        limits=(no_subcarriers, equal_uploads),
        solve_rounds=one_by_one("dual_ascent"),
        style=Style("#7da7cf", "v", "-"),
        by_default=False,  # takes a thousand times as long as the exact method
    ),
    Method(
        "ba",
        "blocks under an equal split of the bandwidth, optimal (P1, Theorem 1).",
        ba,
        HallProof,
        exact=True,
        limits=(no_subcarriers,),
        solve_rounds=one_by_one("block_allocation"),
        style=Style("#e8a33d", "s", "-"),
    ),
    Method(
        "ba-crunch",
        "the same as published, Algorithm 2: optimal, slower.",
        ba_crunch,
        HallProof,
        exact=True,
        limits=(no_subcarriers, no_pairs, rising_uploads),
        solve_rounds=one_by_one("crunch"),
        style=Style("#8a5a00", "x", ":"),
        by_default=False,  # gives what "ba" gives
    ),
    *BASELINES,
)
# The one table. A method that is added here, while lola runs or in this file, is known everywhere.
BY_NAME: dict[str, Method] = {method.name: method for method in _LISTED}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> tuple[str, ...]:
        """Return `METHODS`, the names of all methods, as the table is now."""
        if name == "METHODS":
            return tuple(BY_NAME)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
