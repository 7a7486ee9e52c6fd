"""Memory and latency of each depth without the hardware: the model runs on tensors that hold no data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.evidence import Evidence
from lola.models.depths import Depths
from lola.models.loading import import_transformers
from lola.profile import Profile, Provenance
from lola.profiling.building import adapted, build, described, make_batch
from lola.profiling.extras import extra_of_block
from lola.profiling.iteration import count_tensors
from lola.profiling.memory import weight_bytes
from lola.profiling.workload import ProfilingError, Workload
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

Progress = Callable[[str, int, int], None]
GRANULARITY_BYTES = {"cpu": 1, "cuda": 512}  # CUDA's caching allocator rounds every tensor up
MOMENT_BYTES = 2 * 4  # Adam's two moments, in single precision


@dataclass(frozen=True)
class ReferenceDevice:
    """A device that latency is stated for.

    Attributes
    ----------
    name : str
    flops_per_s : float
        Rate that it sustains in half precision; a multiplication and an addition count as two.
    uncertainty : float
        The true rate may be this many times higher or lower.
    source : str
        Where the rate comes from.
    """

    name: str
    flops_per_s: float
    uncertainty: float
    source: str

    @property
    def assumed(self) -> str:
        """What a provenance says of it."""
        rate = f"{self.flops_per_s / 1e12:g} TFLOP/s"
        return f"{self.name} at {rate}, uncertain by a factor of {self.uncertainty:g}"


REFERENCES = {
    "snapdragon-8-gen-3": ReferenceDevice(
        name="snapdragon-8-gen-3",
        flops_per_s=1.5e12,
        uncertainty=2.0,
        source=(
            "Li et al., Transformer-Lite, arXiv:2403.20041: on the GPU of this chip ChatGLM2 6B reads a prompt at 121 "
            "token/s; two operations for each of 6.2e9 parameters and token make 1.5 TFLOP/s (Gemma 2B at 330 token/s: "
            "1.65). That backward sustains the same rate, and the uncertainty, are assumptions"
        ),
    )
}


def estimate(
    workload: Workload,
    *,
    reference: str = "snapdragon-8-gen-3",
    allocator: str = "cpu",
    progress: Progress | None = None,
) -> Profile:
    """Estimate a profile on any machine, for models of any size.

    Parameters
    ----------
    workload : Workload
        Its weights are never loaded.
    reference : str
        A device of `REFERENCES`. Its rate turns operations into seconds.
    allocator : {"cpu", "cuda"}
        Whose memory is estimated: CUDA keeps a dropout's mask in one byte a value and rounds tensors up.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.

    Returns
    -------
    Profile
        ``memory_bytes``: weights and the peak of live tensors. Its evidence has operations and saved tensors.

    Raises
    ------
    ProfilingError
        If the model cannot be run this way.

    Notes
    -----
    Operations are those of matrix products, convolutions and attention, always counted with eager attention: the
    counter knows no other on every device. What a kernel allocates within itself is not seen.
    """
    device = reference_device(reference)
    report = progress or (lambda *_: None)
    with fake_depths(workload, allocator) as (depths, batch):
        resident, n_blocks = weight_bytes(depths.model), len(depths)
        alone = [range(depth, depth + 1) for depth in range(1, n_blocks + 1)]
        selections = alone + [range(start, n_blocks + 1) for start in range(1, n_blocks)]
        counts = np.empty((len(selections), 3))
        for i, selected in enumerate(selections):
            report("estimate", i, len(selections))
            counts[i] = _count(depths, selected, batch, GRANULARITY_BYTES[allocator])
        upload = [depths.upload_bits(depth) for depth in range(1, n_blocks + 1)]
        known = described(workload, depths)
    if workload.attention != "eager":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        # A module's own attention, which cannot be made eager, is taken apart.
        eager = workload if workload.attention == "own" else replace(workload, attention="eager")
        with fake_depths(eager, allocator) as (depths, batch), sdpa_kernel(SDPBackend.MATH):
            counts[:, 2] = [_count(depths, selected, batch, 1)[2] for selected in selections]
    saved, peak, flops = counts[:n_blocks].T
    saved_at_once, peak_at_once, flops_at_once = np.vstack([counts[n_blocks:], counts[n_blocks - 1]]).T
    return Profile(
        memory_bytes=resident + peak,
        latency_s=flops / device.flops_per_s,
        upload_bits=upload,
        provenance=Provenance(
            **known,
            source="estimated",
            hardware=device.assumed,
            note=f"rate: {device.source}",
            memory=f"weights and peak of live tensors, counted as on {allocator}",
        ),
        evidence=Evidence(
            saved_bytes=saved,
            peak_bytes=peak,
            flops=flops,
            segment_saved_bytes=saved_at_once,
            segment_peak_bytes=peak_at_once,
            segment_flops=flops_at_once,
        ),
        extra_latency_s=extra_of_block(range(1, n_blocks + 1), flops_at_once / device.flops_per_s),
        extra_memory_bytes=extra_of_block(range(1, n_blocks + 1), peak_at_once),
    )


def bring_to_reference(profile: Profile, workload: Workload, reference: str = "snapdragon-8-gen-3") -> Profile:
    """Scale a measured latency to a reference device, by one factor that the profile records.

    Parameters
    ----------
    profile : Profile
        As measured.
    workload : Workload
        What it was measured for; its operations are counted.
    reference : str
        A device of `REFERENCES`.

    Returns
    -------
    Profile
        Its latency adds up, over all depths, to the operations divided by the reference's rate; how it rises is as
        measured.
    """
    device = reference_device(reference)
    counted = estimate(workload, reference=reference)
    if counted.n_blocks != profile.n_blocks:
        raise ProfilingError(f"the profile has {profile.n_blocks} blocks, {workload.name} has {counted.n_blocks}")
    return profile.on_reference(device.name, float(counted.latency_s.sum() / profile.latency_s.sum()))


@dataclass(frozen=True)
class AloneMemory:
    """What one device needs that trains all blocks itself.

    Attributes
    ----------
    weight_bytes : int
    activation_bytes : int
        Peak of live tensors within an iteration, gradients among them.
    moment_bytes : int
        Adam's two moments of every trained parameter, in single precision.
    """

    weight_bytes: int
    activation_bytes: int
    moment_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weight_bytes + self.activation_bytes + self.moment_bytes


def alone(workload: Workload, *, allocator: str = "cpu") -> AloneMemory:
    """Estimate the memory of a device that trains alone (the paper's Fig. 4(b)), counted as `estimate` counts."""
    with fake_depths(workload, allocator) as (depths, batch):
        _, peak = _counted(depths, None, batch, GRANULARITY_BYTES[allocator])
        trained = {id(p): p.numel() for depth in range(1, len(depths) + 1) for p in depths.parameters(depth)}
        return AloneMemory(weight_bytes(depths.model), peak, MOMENT_BYTES * sum(trained.values()))


def reference_device(name: str) -> ReferenceDevice:
    """Return a device of `REFERENCES`.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in REFERENCES:
        raise LolaValueError(f"reference must be one of {', '.join(REFERENCES)}; got {name!r}")
    return REFERENCES[name]


@contextmanager
def fake_depths(workload: Workload, allocator: str = "cpu") -> "Iterator[tuple[Depths, dict[str, torch.Tensor]]]":
    """Build a model, its adapters and a batch on tensors that have shapes and no data.

    Yields
    ------
    depths : Depths
    batch : dict of str to torch.Tensor
    """
    if allocator not in GRANULARITY_BYTES:
        raise LolaValueError(f"allocator must be one of {', '.join(GRANULARITY_BYTES)}; got {allocator!r}")
    import_transformers()
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, _ = build(workload, "meta")
    config = getattr(model, "config", None)
    depths = adapted(workload, model)
    with FakeTensorMode(allow_non_fake_inputs=workload.batch is not None):  # a module may have tensors of its own
        _materialise(model, torch)
        batch = make_batch(workload, config)
        if workload.batch is not None:
            batch = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in batch.items()}
        with _fused_dropout() if allocator == "cuda" else nullcontext():
            yield depths, batch


def _materialise(model: "nn.Module", torch: Any) -> None:
    """Put fake CPU tensors in the place of meta tensors: they answer questions about values as if traced."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for owned in (module._parameters, module._buffers):
            for name, tensor in owned.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    made[id(tensor)] = torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
                owned[name] = made[id(tensor)]


def _fused_dropout() -> Any:
    """Dropout as CUDA does it: one kernel that saves a mask of one byte a value."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Fused(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            keywords = kwargs or {}
            if func is torch.nn.functional.dropout:
                values = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | keywords
                if values.get("training", True) and 0 < values.get("p", 0.5) < 1:
                    return torch.native_dropout(values["input"], values.get("p", 0.5), True)[0]
            return func(*args, **keywords)

    return Fused()


def _count(
    depths: Depths, selected: range, batch: "dict[str, torch.Tensor]", granularity_bytes: int
) -> tuple[int, int, int]:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        saved, peak = _counted(depths, selected, batch, granularity_bytes)
    return saved, peak, int(counter.get_total_flops())


def _counted(
    depths: Depths, selected: range | None, batch: "dict[str, torch.Tensor]", granularity_bytes: int
) -> tuple[int, int]:
    with without_data(depths):
        return count_tensors(depths, selected, batch, granularity_bytes)


@contextmanager
def without_data(depths: Depths) -> Iterator[None]:
    """Say of a model that asks for values, where there are none, that it must be measured.

    Raises
    ------
    ProfilingError
    """
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        UnsupportedOperatorException,
    )

    asks = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
    try:
        yield
    except (*asks, NotImplementedError) as error:
        raise ProfilingError(
            f"{type(depths.model).__name__} cannot run on tensors without data: {error}; measure it instead"
        ) from None
