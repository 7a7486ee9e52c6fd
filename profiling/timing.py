"""Running one selection of depths after another: what each keeps in memory, and how long it takes."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lola.evidence import Evidence
from lola.models.depths import Depths
from lola.profiling.extras import extra_of_block
from lola.profiling.iteration import backward, count_tensors
from lola.profiling.judgement import PRECISION, uncertainty
from lola.profiling.workload import ProfilingError
from lola.solvers.checks import FloatArray

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]

Progress = Callable[[str, int, int], None]
Announce = Callable[[float, float], None]
_ON_CUDA_WARM_UP = 3


@dataclass(frozen=True)
class Effort:
    """How often a selection is timed.

    Attributes
    ----------
    least : int
        As often at least, and on until its median is known, or until `limit_s` is over.
    fewest : int
        As often even if `limit_s` is over before.
    limit_s : float
        Seconds after which no repeat is begun that is not among the fewest.
    """

    least: int
    fewest: int
    limit_s: float

    def expected_s(self, one_pass_s: float) -> tuple[float, float]:
        """Return the seconds that memory and times take, and the most they may, from one pass over all selections."""
        passes = min(max(self.limit_s / one_pass_s, self.fewest), self.least)
        return one_pass_s * (1 + passes), one_pass_s * 2 + max(self.limit_s, one_pass_s * self.fewest)


class Costs(NamedTuple):
    """What was measured, by name: of each depth that was run alone, and from each start down to the deepest."""

    n_blocks: int
    alone_at: list[int]
    starts: list[int]
    by_name: dict[str, FloatArray]

    def alone(self, name: str) -> FloatArray:
        """Return what was measured of each depth alone, (L,)."""
        return self._by_depth(self.alone_at, name, self.by_name[name][: len(self.alone_at)])

    def evidence(self) -> dict[str, FloatArray]:
        """Return what `lola.Evidence` takes."""
        known = {field.name for field in fields(Evidence)}
        alone = {name: self.alone(name) for name in self.by_name if name in known}
        at = [*self.starts, self.n_blocks]
        return alone | {
            f"segment_{name}": self._by_depth(at, name, self._at_once(name))
            for name in self.by_name
            if f"segment_{name}" in known
        }

    def extras(self, memory: str) -> tuple[FloatArray, FloatArray]:
        """Return what one more block costs, (L,) seconds and bytes."""
        at = [*self.starts, self.n_blocks]
        return extra_of_block(at, self._at_once("latency_s")), extra_of_block(at, self._at_once(memory))

    def _at_once(self, name: str) -> FloatArray:
        values, n_alone = self.by_name[name], len(self.alone_at)
        return np.append(values[n_alone:], values[n_alone - 1])

    def _by_depth(self, at: list[int], name: str, values: FloatArray) -> FloatArray:
        """Return (L,) values: those between depths that were run lie on a line, with no repeats and no spread."""
        depth = np.arange(1, self.n_blocks + 1)
        if name not in ("repeats", "latency_iqr_s"):
            return np.interp(depth, at, values)
        known = np.zeros(self.n_blocks)
        known[np.array(at) - 1] = values
        return known


def run_selections(
    depths: Depths,
    alone: list[int],
    starts: list[int],
    batch: "Batch",
    device: str,
    effort: Effort,
    report: Progress,
    announce: Announce,
) -> Costs:
    """Measure memory and latency of depths alone, and from each start down to the deepest.

    Parameters
    ----------
    depths : Depths
    alone, starts : list of int
        See `lola.profiling.extras.depths_to_run`.
    batch : dict of str to torch.Tensor
    device : {"cpu", "cuda"}
    effort : Effort
    report, announce : callable
        See `lola.profiling.measure`.
    """
    selections = [range(depth, depth + 1) for depth in alone] + [range(start, len(depths) + 1) for start in starts]
    by_name = _memory(depths, selections, batch, device, effort, report, announce)
    times = _times(depths, selections, batch, device, effort, report)
    by_name["latency_s"] = np.array([np.median(series) for series in times])
    by_name["latency_iqr_s"] = np.array([np.subtract(*np.percentile(series, [75, 25])) for series in times])
    by_name["repeats"] = np.array([float(len(series)) for series in times])
    return Costs(len(depths), alone, starts, by_name)


def _memory(
    depths: Depths,
    selections: Sequence[range],
    batch: "Batch",
    device: str,
    effort: Effort,
    report: Progress,
    announce: Announce,
) -> dict[str, FloatArray]:
    """Measure what each selection keeps, (S,) bytes by the name in `lola.Evidence`; say early how long all will take.

    The deepest comes first: on the CPU the heap has its full size before anything is timed, and on CUDA workspaces
    that stay are no part of an iteration. Next comes the shallowest, and the two tell how long all will take.
    """
    by_depth = sorted(range(len(selections)), key=lambda i: (selections[i][-1], len(selections[i])))
    order = [by_depth.pop(), *by_depth]
    ends = [selections[i] for i in order[:2]]
    if device == "cuda":
        for selected in ends:
            with _out_of_memory_at(selected, depths):
                _run(depths, selected, batch, device)
    seconds, kept = {}, []
    for done, i in enumerate(order):
        report("memory", done, len(order))
        start = time.perf_counter()
        with _out_of_memory_at(selections[i], depths):
            kept.append((_memory_on_cuda if device == "cuda" else _memory_on_cpu)(depths, selections[i], batch))
        seconds[selections[i][-1]] = time.perf_counter() - start
        if done == len(ends) - 1:
            known = sorted(seconds)
            pace = np.interp([chosen[-1] for chosen in selections], known, [seconds[depth] for depth in known])
            announce(*effort.expected_s(float(pace.sum())))
    return {name: np.array([kept[order.index(i)][name] for i in range(len(order))], float) for name in kept[0]}


def _memory_on_cpu(depths: Depths, selected: range, batch: "Batch") -> dict[str, int]:
    saved, peak = count_tensors(depths, selected, batch)
    return {"saved_bytes": saved, "peak_bytes": peak}


def _memory_on_cuda(depths: Depths, selected: range, batch: "Batch") -> dict[str, int]:
    import torch

    depths.model.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    idle = torch.cuda.memory_allocated()
    _run(depths, selected, batch, "cuda")
    torch.cuda.synchronize()
    return {
        "peak_bytes": torch.cuda.max_memory_allocated() - idle,
        "reserved_bytes": torch.cuda.max_memory_reserved(),
    }


def _times(
    depths: Depths, selections: Sequence[range], batch: "Batch", device: str, effort: Effort, report: Progress
) -> list[list[float]]:
    """Time all selections in rounds, each in a new random order, so that a drift does not look like depth."""
    order = list(range(len(selections)))
    shuffled = random.Random(0)
    times: list[list[float]] = [[] for _ in order]
    if device == "cuda":
        for selected in selections:
            for _ in range(_ON_CUDA_WARM_UP):
                _run(depths, selected, batch, device)
    start = time.monotonic()

    def is_due(i: int) -> bool:
        if len(times[i]) < effort.fewest:
            return True
        over = time.monotonic() - start > effort.limit_s
        return not over and (len(times[i]) < effort.least or not _known(times[i]))

    while due := [i for i in order if is_due(i)]:
        shuffled.shuffle(due)
        for i in filter(is_due, due):
            done = sum(min(len(series), effort.least) for series in times)
            if done < effort.least * len(order):
                report("latency", done, effort.least * len(order))
            else:
                report("repeating what is noisy", int(time.monotonic() - start), int(effort.limit_s))
            with _out_of_memory_at(selections[i], depths):
                times[i].append((_time_on_cuda if device == "cuda" else _time_on_cpu)(depths, selections[i], batch))
    return times


def _known(series: list[float]) -> bool:
    low, median, high = np.percentile(series, [25, 50, 75])
    return bool(uncertainty(median, high - low, len(series)) <= PRECISION)


def _run(depths: Depths, selected: range, batch: "Batch", device: str) -> None:
    depths.select(selected)
    _iterate(depths, selected, batch, device)


def _iterate(depths: Depths, selected: range | None, batch: "Batch", device: str) -> None:
    """Run one local iteration: the data to the device, forward, backward down to the deepest block.

    None runs what is selected without the guard, which asks every module below: memory was measured under it, and
    beneath a shallow depth, where it asks the most, its milliseconds would count as latency.
    """
    backward(depths, selected, {name: tensor.to(device, copy=True) for name, tensor in batch.items()})


def _time_on_cpu(depths: Depths, selected: range, batch: "Batch") -> float:
    depths.select(selected)
    start = time.perf_counter()
    _iterate(depths, None, batch, "cpu")
    return time.perf_counter() - start


def _time_on_cuda(depths: Depths, selected: range, batch: "Batch") -> float:
    import torch

    depths.select(selected)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    _iterate(depths, None, batch, "cuda")
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


@contextmanager
def _out_of_memory_at(selected: range, depths: Depths) -> Iterator[None]:
    """Turn running out of memory into a sentence that names the depth."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, ProfilingError):
            raise
        text = str(error)
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in text:
            raise
        reason = text.splitlines()[0] if text else "no reason given"
        raise ProfilingError(
            f"out of memory at depth {selected[-1]} of {len(depths)}: {reason}; take a smaller batch, a shorter "
            "sequence or half precision, or estimate instead"
        ) from None
