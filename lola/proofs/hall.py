"""(P1): a set of blocks that too few devices can serve in time."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lola.files.formats import check_keys, integers
from lola.problem import Problem
from lola.proofs.checks import ROUNDING, chunks
from lola.solvers.checks import IntArray, check_array, require


@dataclass(frozen=True, eq=False)
class HallProof:
    """Proof for an equal split: too few devices can serve these blocks in less than the bound.

    Attributes
    ----------
    blocks : int64 array
        Indices of blocks; fewer devices than these can serve any of them in less than ``lower_bound_s``.
    """

    kind: ClassVar[str] = "hall"
    blocks: IntArray

    def check(self, problem: Problem, bound: float) -> None:
        """Count the devices that can serve one of the blocks in less than the bound."""
        check_array("proof", "blocks", self.blocks, np.int64, None)
        blocks = np.unique(self.blocks)
        require(
            blocks.size > 0 and blocks[0] >= 0 and blocks[-1] < problem.n_blocks,
            "proof",
            "names no blocks of the problem",
        )
        share = problem.bandwidth_hz / problem.n_blocks
        able = 0
        for compute, load, possible in chunks(problem):
            quick = compute + load / share < bound * (1 - ROUNDING)
            able += int((quick & possible)[:, blocks].any(axis=1).sum())
        require(
            able < blocks.size,
            "proof",
            f"{able} devices can serve one of {blocks.size} blocks in less than {bound:.17g} s; want fewer",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"blocks": self.blocks.tolist()}

    @classmethod
    def from_json(cls, where: str, data: dict[str, Any], problem: Problem) -> Self:
        """Build it from a JSON object."""
        check_keys(where, data, ["blocks"])
        return cls(np.array(integers(f"{where}, blocks", data["blocks"]), dtype=np.int64))
