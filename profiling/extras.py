"""Which depths are run, and what one more trained block costs a device whose deepest block lies below it."""

from collections.abc import Sequence

import numpy as np

from lola.profiling.judgement import isotonic
from lola.solvers.checks import FloatArray

_FEW = 4  # as many as show whether they lie on a line


def depths_to_run(n_blocks: int, exact: bool) -> tuple[list[int], list[int]]:
    """Choose the depths that are each trained alone, and those from which all down to the deepest are trained at once.

    Returns
    -------
    alone : list of int
        Rising; depth 1 and the deepest among them.
    starts : list of int
        Rising, without the deepest; depth 1 among them where there are two blocks or more.
    """
    few = np.unique(np.rint(np.linspace(1, n_blocks, _FEW))).astype(int).tolist()
    return (list(range(1, n_blocks + 1)), few[:-1]) if exact else (few, few[: n_blocks > 1])


def extra_of_block(starts: Sequence[int], at_once: FloatArray) -> FloatArray:
    """Return what each block adds, (L,), from what it takes to train a few ranges of depths that end at the deepest.

    Parameters
    ----------
    starts : sequence of int
        Rising depths at which the ranges begin; the last is L, the deepest depth alone.
    at_once : (n,) float64 array
        Seconds or bytes of each range. Where one rises with its start, it is made not to, by least squares.

    Returns
    -------
    (L,) float64 array
        The slope between the ranges. The last entry, which nothing ever needs, is that of its neighbour.
    """
    fitted = isotonic(at_once[::-1])[::-1]
    line = np.interp(np.arange(1, starts[-1] + 1), starts, fitted)
    steps = np.maximum(-np.diff(line), 0.0)
    return np.append(steps, steps[-1:] if steps.size else 0.0)
