"""What the stages of a chain hold and hand on: weights, what is kept for backward, workspace, and bits at each cut."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.models.cutting import ModuleChain
from lola.models.depths import loss_of_output
from lola.models.running import evaluating
from lola.profiling.chain_run import Watch, run_stages
from lola.profiling.estimation import MOMENT_BYTES
from lola.profiling.memory import PeakCounter, count_saved, total_bytes, track_peak
from lola.solvers.checks import FloatArray

if TYPE_CHECKING:
    import torch
    from torch import nn

    Batch = dict[str, torch.Tensor]

STAGE_MEMORY = "weights, gradients and Adam's moments of what is tunable, and saved tensors"
_TUNABLE_BITS = 32  # as of an upload of `Depths`
_INDEX_BITS = 64


@dataclass(frozen=True, eq=False)
class StageMemory:
    """Bytes that each stage of one cut of a chain needs beside its weights, the optimizer's state left out.

    Attributes
    ----------
    saved_bytes : (S,) float64 array
        Kept for backward by the time forward ends, each storage once.
    peak_bytes : (S,) float64 array
        Largest sum of live tensors in forward and backward, gradients of what is tunable among them.
    inference_peak_bytes : (S,) float64 array
        The same in inference.
    result_bits : float
        Answer of inference.
    """

    saved_bytes: FloatArray
    peak_bytes: FloatArray
    inference_peak_bytes: FloatArray
    result_bits: float


def stage_memory(chain: ModuleChain, starts: Sequence[int], batch: "Batch", granularity_bytes: int = 1) -> StageMemory:
    """Count what each stage needs, on real or on fake tensors.

    Parameters
    ----------
    chain : ModuleChain
    starts : sequence of int
        First module of each stage, rising, from 0.
    batch : dict of str to torch.Tensor
    granularity_bytes : int
        See `lola.profiling.memory.track_peak`.
    """
    saved = np.zeros(len(starts))

    def watching(counters: list[PeakCounter]) -> Watch:
        @contextmanager
        def watch(stage: int, direction: str) -> Iterator[None]:
            with track_peak(granularity_bytes, counters[stage]), count_saved(chain.model) as kept:
                yield
            if direction == "forward":
                saved[stage] = kept.bytes

        return watch

    training, inference = ([PeakCounter(granularity_bytes) for _ in starts] for _ in range(2))
    answer = _answer(chain, starts, batch, watching(inference))
    run_stages(chain, starts, batch, watching(training))
    return StageMemory(
        saved_bytes=saved,
        peak_bytes=np.array([counter.peak_bytes for counter in training], float),
        inference_peak_bytes=np.array([counter.peak_bytes for counter in inference], float),
        result_bits=_result_bits(answer),
    )


def module_costs(chain: ModuleChain, batch: "Batch", granularity_bytes: int = 1) -> dict[str, Any]:
    """Return what each module holds and hands on, by the names in `lola.StageProfile`: all but the seconds.

    Parameters
    ----------
    chain, batch, granularity_bytes
        As for `stage_memory`. All depths are selected from then on.
    """
    chain.depths.select_all()
    memory = stage_memory(chain, range(len(chain)), batch, granularity_bytes)
    owned, hop_bits, return_bits = _owned_and_handed_on(chain, batch)
    tunable = [[tensor for tensor in tensors if tensor.requires_grad] for tensors in owned]
    weights, gradients = (np.array([total_bytes(each) for each in kind], float) for kind in (owned, tunable))
    values = np.array([sum(tensor.numel() for tensor in each) for each in tunable], float)
    of_batch, first_output = np.zeros((2, len(chain)))
    of_batch[0], first_output[0] = total_bytes(batch.values()), hop_bits[0] / 8
    sent = np.append(hop_bits / 8, 0.0)
    held, answering = weights + of_batch, weights + of_batch + first_output  # which models have until they end
    return {
        "memory_bytes": held + gradients + MOMENT_BYTES * values + memory.saved_bytes,
        "inference_memory_bytes": answering,
        "kept_bytes": memory.saved_bytes,
        "workspace_bytes": np.maximum(memory.peak_bytes - of_batch - gradients - memory.saved_bytes - sent, 0.0),
        "inference_workspace_bytes": np.maximum(memory.inference_peak_bytes - of_batch - first_output, 0.0),
        "hop_bits": hop_bits,
        "return_bits": return_bits,
        "tunable_bits": _TUNABLE_BITS * values,
        "result_bits": memory.result_bits,
    }


def _answer(chain: ModuleChain, starts: Sequence[int], batch: "Batch", watch: Watch) -> Any:
    """Run inference: without dropout, and without labels where the model can do without."""
    asked = {name: tensor for name, tensor in batch.items() if name != "labels" or not hasattr(chain.model, "config")}
    with evaluating(chain.model):
        return run_stages(chain, starts, asked, watch, inference=True)


def _result_bits(answer: Any) -> float:
    """Count the scores, or what tells which of them is highest where that is less; a loss alone says nothing."""
    scores = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if scores is None:
        return 0.0
    return float(min(8 * scores.numel() * scores.element_size(), _INDEX_BITS * scores[..., 0].numel()))


def _owned_and_handed_on(
    chain: ModuleChain, batch: "Batch"
) -> "tuple[list[list[torch.Tensor]], FloatArray, FloatArray]":
    """Run a batch forward, and see which weights each module uses and how many bits cross each cut, there and back."""
    import torch

    running = 0
    hop_bits, return_bits = np.zeros((2, len(chain) - 1))
    owned: list[list[torch.Tensor]] = [[] for _ in range(len(chain))]
    for number, block in enumerate(chain.blocks, start=1):
        owned[number] += [*block.parameters(), *block.buffers()]

    def cut(module: int, hidden: "torch.Tensor", _: object) -> "torch.Tensor":
        nonlocal running
        running = module
        hop_bits[module - 1] = 8 * hidden.numel() * hidden.element_size()
        return_bits[module - 1] = hop_bits[module - 1] * hidden.requires_grad
        return hidden

    def use(module: "nn.Module", _: object) -> None:
        owned[running] += [*module.parameters(recurse=False), *module.buffers(recurse=False)]

    inside = {id(module) for block in chain.blocks for module in block.modules()}
    outside = [module for module in chain.model.modules() if id(module) not in inside]
    handles = [module.register_forward_pre_hook(use) for module in outside]
    try:
        with chain.cut_by(cut):
            loss_of_output(chain.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return owned, hop_bits, return_bits
