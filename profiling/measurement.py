"""Memory and latency of each depth by running real backpropagation, on the CPU or on CUDA."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from lola.evidence import Evidence
from lola.models.depths import Depths
from lola.models.loading import import_transformers
from lola.models.seeding import seeded
from lola.profile import SAVED_MEMORY, Profile, Provenance
from lola.profiling.building import adapted, build, described, make_batch
from lola.profiling.extras import depths_to_run
from lola.profiling.judgement import check_monotone, rising
from lola.profiling.machine import cpu_name, fixed_threads, keep_freed_memory, thread_count
from lola.profiling.memory import weight_bytes
from lola.profiling.process_peak import process_peaks
from lola.profiling.timing import Announce, Effort, Progress, run_selections
from lola.profiling.workload import NotMonotoneError, ProfilingError, Workload
from lola.solvers.checks import positive_integer, positive_number
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch

_LEAST = {"cpu": 5, "cuda": 30}
_FEWEST = 3
_LIMIT_S, _LIMIT_EXACT_S = 60.0, 600.0


def measure(
    workload: Workload,
    *,
    device: str = "cpu",
    exact: bool = False,
    threads: int | None = None,
    repeats: int | None = None,
    limit_s: float | None = None,
    monotone: str | None = None,
    check_process: bool = False,
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Profile:
    """Measure a model's profile.

    Parameters
    ----------
    workload : Workload
    device : {"cpu", "cuda"}
    exact : bool
        Run every depth. Otherwise four at most are run, and the profile follows the line between them, and says so.
    threads : int, optional
        CPU threads, fixed during the measurement; torch's own choice if left out.
    repeats : int, optional
        Timed iterations of each depth, at least, however long they take. If left out, 5 on the CPU and 30 on CUDA, but
        3 do once `limit_s` is over. More follow until every median is known to 3 %, or until `limit_s`.
    limit_s : float, optional
        Seconds after which no repeats beyond those are begun; 60 if left out, 600 where `exact`.
    monotone : {None, "isotonic"}
        A latency that falls no more than noise explains is made to rise by isotonic regression, by least squares; the
        medians are kept beside it. ``"isotonic"`` does so whatever the noise.
    check_process : bool
        On the CPU, measure the peak of a child process at each depth, too, before anything else. Not of a module.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.
    announce : callable, optional
        Called once, after the first iterations, with the seconds that all will take and the most that they may.

    Returns
    -------
    Profile
        ``memory_bytes``: weights and, on the CPU, the tensors saved for backward; on CUDA the peak that was allocated
        above the idle model. Where the CPU's peak is well above, ``memory_note`` and the provenance's note say so.
        ``latency_s``: medians of data, forward and backward. Its evidence has the spread, and what it takes to train
        several depths at once, from which its ``extra_latency_s`` and ``extra_memory_bytes`` are. Where the evidence
        has no repeats a depth was not run.

    Raises
    ------
    ProfilingError
        If the model cannot be profiled, memory runs out at some depth, or the child process fails.
    NotMonotoneError
        If the latency falls with depth by more than noise explains, and `monotone` is not given; it holds what was
        measured.
    """
    import_transformers()
    import torch

    check_monotone(monotone)
    used_threads, effort = _checked(device, exact, threads, repeats, limit_s)
    report = progress or (lambda *_: None)
    process_peak_bytes = None
    if check_process and device == "cpu":
        report("child process", 0, 1)  # first, so that a child that fails takes no measurement with it
        process_peak_bytes = process_peaks(workload, used_threads)
    with prepared(workload, device, used_threads) as (depths, batch, weights):
        known, n_blocks = described(workload, depths), len(depths)
        resident = weight_bytes(depths.model)
        alone, starts = depths_to_run(n_blocks, exact)
        costs = run_selections(depths, alone, starts, batch, device, effort, report, announce or (lambda *_: None))
    evidence = Evidence(**costs.evidence(), process_peak_bytes=process_peak_bytes)
    above = evidence.saved_bytes if device == "cpu" else evidence.peak_bytes
    assert above is not None
    hardware = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{cpu_name()}, {used_threads} thread{'s' * (used_threads > 1)}"
    )
    between = f"measured at depths {', '.join(map(str, alone))}, elsewhere the line between them"
    provenance = Provenance(
        **known,
        source="measured",
        hardware=hardware,
        note="" if len(alone) == n_blocks else between,
        memory=SAVED_MEMORY if device == "cpu" else "weights and peak allocated above the idle model",
        weights=weights,
        threads=used_threads,
    )
    extra_latency, extra_memory = costs.extras("saved_bytes" if device == "cpu" else "peak_bytes")

    def made(monotone: str | None) -> Profile:
        rising_latency, kept = rising(costs.alone("latency_s"), evidence, monotone)
        made_to_rise = None if kept.raw_latency_s is None else "isotonic"
        profile = Profile(
            memory_bytes=resident + above,
            latency_s=rising_latency,
            upload_bits=[depths.upload_bits(depth) for depth in range(1, n_blocks + 1)],
            provenance=provenance,
            evidence=kept,
            extra_latency_s=extra_latency,
            extra_memory_bytes=extra_memory,
        )
        note = "; ".join(filter(None, (provenance.note, profile.memory_note)))
        return replace(profile, provenance=replace(provenance, monotone=made_to_rise, note=note))

    try:
        return made(monotone)
    except NotMonotoneError as error:
        error.profile = made("isotonic")
        raise


def measure_extras(
    profile: Profile,
    workload: Workload,
    *,
    device: str = "cpu",
    threads: int | None = None,
    repeats: int | None = None,
    limit_s: float | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure what one more trained block costs, and add that to a profile whose other numbers stay.

    Parameters
    ----------
    profile : Profile
        Of the same workload.
    workload, device, threads, repeats, limit_s, progress
        As for `measure`; `limit_s` is 600 if left out.

    Returns
    -------
    Profile
        With ``extra_latency_s`` and ``extra_memory_bytes``. The seconds are brought to the profile's own latency at
        the deepest depth, which is measured with them: the machine may be faster or slower than it was.

    Raises
    ------
    ProfilingError
        If the model has another number of blocks, or cannot be profiled.
    """
    used_threads, effort = _checked(device, True, threads, repeats, limit_s)
    report = progress or (lambda *_: None)
    with prepared(workload, device, used_threads) as (depths, batch, _):
        n_blocks = len(depths)
        if n_blocks != profile.n_blocks:
            raise ProfilingError(
                f"the profile has {profile.n_blocks} blocks, {workload.model} has {n_blocks}; give its own"
            )
        _, starts = depths_to_run(n_blocks, True)
        costs = run_selections(depths, [n_blocks], starts, batch, device, effort, report, lambda *_: None)
    extra_latency, extra_memory = costs.extras("saved_bytes" if device == "cpu" else "peak_bytes")
    factor = profile.latency_s[-1] / costs.alone("latency_s")[-1]
    segments = {name: array for name, array in costs.evidence().items() if name.startswith("segment_")}
    return replace(
        profile,
        evidence=replace(profile.evidence or Evidence(), **Evidence(**segments).scaled(factor).to_dict()),
        extra_latency_s=extra_latency * factor,
        extra_memory_bytes=extra_memory,
    )


def _checked(
    device: str, exact: bool, threads: int | None, repeats: int | None, limit_s: float | None
) -> tuple[int, Effort]:
    import_transformers()
    import torch

    if device not in _LEAST:
        raise LolaValueError(
            f"device must be cpu or cuda (a GPU), got {device!r}; or estimate, which runs on neither: lola.profiling."
            "estimate, --device estimate"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ProfilingError("no CUDA device is to be had; measure on the cpu, or estimate")
    least = _LEAST[device] if repeats is None else positive_integer("repeats", repeats)
    limit = (_LIMIT_EXACT_S if exact else _LIMIT_S) if limit_s is None else positive_number("limit_s", limit_s)
    used_threads = torch.get_num_threads() if threads is None else thread_count(threads)
    return used_threads, Effort(least, _FEWEST if repeats is None else least, limit)


@contextmanager
def prepared(workload: Workload, device: str, threads: int) -> "Iterator[tuple[Depths, dict[str, torch.Tensor], str]]":
    """Build the model, its adapters and a batch, on the device; dropout draws from the seed as well."""
    with seeded(workload.seed, device), fixed_threads(threads), keep_freed_memory():
        model, weights = build(workload, device)
        depths = adapted(workload, model)
        model.to(device)
        yield depths, make_batch(workload, getattr(model, "config", None)), weights
