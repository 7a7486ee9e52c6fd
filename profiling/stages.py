"""What each module of a model costs a client of a chain, by running it on the CPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from lola.chains.stages import StageProfile
from lola.models.cutting import ModuleChain
from lola.models.loading import import_transformers
from lola.profile import Provenance
from lola.profiling.building import described
from lola.profiling.chain_run import run_stages
from lola.profiling.judgement import PRECISION, uncertainty
from lola.profiling.machine import cpu_name, thread_count
from lola.profiling.measurement import prepared
from lola.profiling.stage_memory import STAGE_MEMORY, module_costs
from lola.profiling.timing import Progress
from lola.profiling.workload import Workload
from lola.solvers.checks import FloatArray, positive_integer, positive_number

if TYPE_CHECKING:
    import torch

_LEAST, _FEWEST = 5, 3
_LIMIT_S = 60.0
_WORTH_KNOWING = 0.01  # of a batch: what takes less may be as noisy as it likes


def measure_stages(
    workload: Workload,
    *,
    threads: int | None = None,
    repeats: int | None = None,
    limit_s: float | None = None,
    progress: Progress | None = None,
) -> StageProfile:
    """Measure what each module of a model costs, run as if on a client of its own.

    Parameters
    ----------
    workload : Workload
        With LoRA, or with prompts, in every block.
    threads : int, optional
        CPU threads, fixed during the measurement; torch's own choice if left out.
    repeats : int, optional
        Timed batches, at least, however long they take. If left out 5, but 3 do once `limit_s` is over. More follow
        until the median of every module that takes 1 % of a batch or more is known to 3 %, or until `limit_s`.
    limit_s : float, optional
        Seconds after which no repeats beyond those are begun; 60 if left out.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.

    Returns
    -------
    StageProfile
        Medians of seconds, with their interquartile ranges; bytes as counted on the tensors of one batch.

    Raises
    ------
    lola.models.ModelError
        If the model cannot be profiled, or is no chain: each block runs once, on what the block before it gave.

    Notes
    -----
    The embedding trains nothing, so backward ends at the first block, and no gradient crosses the first cut. What is
    between two blocks counts with the first of them. Forward is as in training, with dropout.
    """
    import_transformers()
    import torch

    least = _LEAST if repeats is None else positive_integer("repeats", repeats)
    fewest = _FEWEST if repeats is None else least
    limit = _LIMIT_S if limit_s is None else positive_number("limit_s", limit_s)
    used_threads = torch.get_num_threads() if threads is None else thread_count(threads)
    report = progress or (lambda *_: None)
    with prepared(workload, "cpu", used_threads) as (depths, batch, weights):
        chain = ModuleChain(depths)
        report("memory", 0, 1)
        costs = module_costs(chain, batch)
        times: list[FloatArray] = []
        start = time.monotonic()
        while len(times) < fewest or (time.monotonic() - start <= limit and (len(times) < least or not _known(times))):
            if len(times) < least:
                report("seconds", len(times), least)
            else:
                report("repeating what is noisy", int(time.monotonic() - start), int(limit))
            times.append(_seconds(chain, batch))
        known = described(workload, depths)
    (forward, backward), (forward_iqr, backward_iqr) = np.median(times, 0), _spread(times)
    return StageProfile(
        forward_s=forward,
        backward_s=backward,
        batch_size=workload.batch_size,
        **costs,
        provenance=Provenance(
            **known,
            source="measured",
            hardware=f"{cpu_name()}, {used_threads} thread{'s' * (used_threads > 1)}",
            note=f"medians of {len(times)} batches",
            memory=STAGE_MEMORY,
            weights=weights,
            threads=used_threads,
        ),
        forward_iqr_s=forward_iqr,
        backward_iqr_s=backward_iqr,
    )


def _seconds(chain: ModuleChain, batch: "dict[str, torch.Tensor]") -> FloatArray:
    """Time each module of one batch, (2, N): forward and backward."""
    seconds = np.zeros((2, len(chain)))

    @contextmanager
    def watch(module: int, direction: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[int(direction == "backward"), module] = time.perf_counter() - start

    run_stages(chain, range(len(chain)), batch, watch)
    return seconds


def _known(times: list[FloatArray]) -> bool:
    medians = np.median(times, 0)
    counts = medians >= _WORTH_KNOWING * medians.sum()
    return bool((uncertainty(medians[counts], _spread(times)[counts], len(times)) <= PRECISION).all())


def _spread(times: list[FloatArray]) -> FloatArray:
    low, high = np.percentile(times, [25, 75], axis=0)
    return np.asarray(high - low)
