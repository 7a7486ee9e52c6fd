"""Memory and latency of each depth by running real backpropagation, on the CPU or on CUDA."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lola.evidence import Evidence
from lola.models.depths import Depths
from lola.models.loading import import_transformers
from lola.models.seeding import seeded
from lola.profile import Profile, Provenance
from lola.profiling.building import adapted, build, example_length, make_batch
from lola.profiling.iteration import backward, count_tensors
from lola.profiling.judgement import PRECISION, check_monotone, rising, uncertainty
from lola.profiling.machine import cpu_name, fixed_threads, keep_freed_memory, software, thread_count
from lola.profiling.memory import weight_bytes
from lola.profiling.process_peak import process_peaks
from lola.profiling.workload import NotMonotoneError, ProfilingError, Workload
from lola.solvers.checks import FloatArray, positive_integer, positive_number
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]

Progress = Callable[[str, int, int], None]
_LEAST = {"cpu": 5, "cuda": 30}
_ON_CUDA_WARM_UP = 3


def measure(
    workload: Workload,
    *,
    device: str = "cpu",
    threads: int | None = None,
    repeats: int | None = None,
    limit_s: float = 600.0,
    monotone: str | None = None,
    check_process: bool = False,
    progress: Progress | None = None,
) -> Profile:
    """Measure a model's profile.

    Parameters
    ----------
    workload : Workload
    device : {"cpu", "cuda"}
    threads : int, optional
        CPU threads, fixed during the measurement; torch's own choice if left out.
    repeats : int, optional
        Timed iterations of each depth, at least; 5 on the CPU and 30 on CUDA if left out. More follow until every
        median is known to 3 %, or until `limit_s`.
    limit_s : float
        Seconds after which no further repeats are begun.
    monotone : {None, "isotonic"}
        ``"isotonic"`` makes a latency that falls somewhere rise, by least squares; the medians are kept beside it.
    check_process : bool
        On the CPU, measure the peak of a child process at each depth, too.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.

    Returns
    -------
    Profile
        ``memory_bytes``: weights and, on the CPU, the tensors saved for backward; on CUDA the peak that was allocated
        above the idle model. ``latency_s``: medians of data, forward and backward. Its evidence has the spread.

    Raises
    ------
    ProfilingError
        If the model cannot be profiled, or memory runs out at some depth.
    NotMonotoneError
        If the latency falls with depth and `monotone` is not given; it holds what was measured.
    """
    import_transformers()
    import torch

    if device not in _LEAST:
        raise LolaValueError(f"device must be one of {', '.join(_LEAST)}; got {device!r}")
    check_monotone(monotone)
    if device == "cuda" and not torch.cuda.is_available():
        raise ProfilingError("no CUDA device is to be had; measure on the cpu, or estimate")
    least = _LEAST[device] if repeats is None else positive_integer("repeats", repeats)
    positive_number("limit_s", limit_s)
    used_threads = torch.get_num_threads() if threads is None else thread_count(threads)
    report = progress or (lambda *_: None)

    # Dropout draws as well.
    with seeded(workload.seed, device), fixed_threads(used_threads), keep_freed_memory():
        model, weights = build(workload, device)
        config = getattr(model, "config", None)
        depths = adapted(workload, model)
        model.to(device)
        batch = make_batch(workload, config)
        memory = (_memory_on_cuda if device == "cuda" else _memory_on_cpu)(depths, batch, report)
        times = _times(depths, batch, device, least, limit_s, report)
        resident = weight_bytes(model)
    latency = np.array([np.median(series) for series in times])
    evidence = Evidence(
        latency_iqr_s=[np.subtract(*np.percentile(series, [75, 25])) for series in times],
        repeats=[float(len(series)) for series in times],
        **memory,
    )
    above = evidence.saved_bytes if device == "cpu" else evidence.peak_bytes
    assert above is not None
    if check_process and device == "cpu":
        report("child process", 0, 1)
        evidence = replace(evidence, process_peak_bytes=process_peaks(workload, len(depths), used_threads))
    hardware = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{cpu_name()}, {used_threads} thread{'s' * (used_threads > 1)}"
    )
    provenance = Provenance(
        model=workload.name,
        batch_size=workload.batch_size,
        sequence_length=example_length(workload, config),
        dtype=workload.dtype,
        source="measured",
        hardware=hardware,
        memory="weights and saved tensors" if device == "cpu" else "weights and peak allocated above the idle model",
        weights=weights,
        attention=workload.attention,
        mode=workload.mode,
        head=depths.head,
        lora_rank=depths.rank,
        lora_targets=depths.targets,
        seed=workload.seed,
        threads=used_threads,
        software=software(),
    )
    upload = [depths.upload_bits(depth) for depth in range(1, len(depths) + 1)]

    def made(monotone: str | None) -> Profile:
        rising_latency, kept = rising(latency, evidence, monotone)
        made_to_rise = None if kept.raw_latency_s is None else monotone
        return Profile(
            memory_bytes=resident + above,
            latency_s=rising_latency,
            upload_bits=upload,
            provenance=replace(provenance, monotone=made_to_rise),
            evidence=kept,
        )

    try:
        return made(monotone)
    except NotMonotoneError as error:
        error.profile = made("isotonic")
        raise


def iterate(depths: Depths, depth: int, batch: "Batch", device: str) -> None:
    """Run one local iteration: the data to the device, forward, backward down to the block."""
    backward(depths, depth, {name: tensor.to(device, copy=True) for name, tensor in batch.items()})


def _memory_on_cpu(depths: Depths, batch: "Batch", report: Progress) -> dict[str, FloatArray]:
    """Count saved and live tensors; the deepest first, so that the heap has its full size before anything is timed."""
    n_blocks = len(depths)
    saved_bytes, peak_bytes = np.zeros(n_blocks), np.zeros(n_blocks)
    for done, depth in enumerate(range(n_blocks, 0, -1)):
        report("memory", done, n_blocks)
        with _out_of_memory_at(depth, depths):
            saved_bytes[depth - 1], peak_bytes[depth - 1] = count_tensors(depths, depth, batch)
    return {"saved_bytes": saved_bytes, "peak_bytes": peak_bytes}


def _memory_on_cuda(depths: Depths, batch: "Batch", report: Progress) -> dict[str, FloatArray]:
    import torch

    n_blocks = len(depths)
    peak_bytes, reserved_bytes = np.zeros(n_blocks), np.zeros(n_blocks)
    for depth in (n_blocks, 1):  # workspaces that stay are no part of an iteration
        with _out_of_memory_at(depth, depths):
            depths.select(depth)
            iterate(depths, depth, batch, "cuda")
    for depth in range(1, n_blocks + 1):
        report("memory", depth - 1, n_blocks)
        depths.model.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
        with _out_of_memory_at(depth, depths):
            depths.select(depth)
            iterate(depths, depth, batch, "cuda")
            torch.cuda.synchronize()
        peak_bytes[depth - 1] = torch.cuda.max_memory_allocated() - idle
        reserved_bytes[depth - 1] = torch.cuda.max_memory_reserved()
    return {"peak_bytes": peak_bytes, "reserved_bytes": reserved_bytes}


def _times(
    depths: Depths, batch: "Batch", device: str, least: int, limit_s: float, report: Progress
) -> list[list[float]]:
    """Time all depths in rounds, each in a new random order, so that a drift does not look like depth."""
    order = list(range(1, len(depths) + 1))
    shuffled = random.Random(0)
    times: list[list[float]] = [[] for _ in order]
    if device == "cuda":
        for depth in order:
            depths.select(depth)
            for _ in range(_ON_CUDA_WARM_UP):
                iterate(depths, depth, batch, device)
    start = time.monotonic()
    while True:
        unknown = [depth for depth in order if len(times[depth - 1]) < least or not _known(times[depth - 1])]
        done = min(len(series) for series in times)
        if not unknown or (done >= least and time.monotonic() - start > limit_s):
            return times
        report("latency", min(done, least - 1), least)
        shuffled.shuffle(unknown)
        for depth in unknown:
            with _out_of_memory_at(depth, depths):
                depths.select(depth)
                times[depth - 1].append(
                    _time_on_cuda(depths, depth, batch) if device == "cuda" else _time(depths, depth, batch)
                )


def _known(series: list[float]) -> bool:
    low, median, high = np.percentile(series, [25, 50, 75])
    return bool(uncertainty(median, high - low, len(series)) <= PRECISION)


def _time(depths: Depths, depth: int, batch: "Batch") -> float:
    start = time.perf_counter()
    iterate(depths, depth, batch, "cpu")
    return time.perf_counter() - start


def _time_on_cuda(depths: Depths, depth: int, batch: "Batch") -> float:
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    iterate(depths, depth, batch, "cuda")
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


@contextmanager
def _out_of_memory_at(depth: int, depths: Depths) -> Iterator[None]:
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
        raise ProfilingError(
            f"out of memory at depth {depth} of {len(depths)}: {text.splitlines()[0] if text else 'no reason given'}; "
            "take a smaller batch, a shorter sequence or half precision, or estimate instead"
        ) from None
