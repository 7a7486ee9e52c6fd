"""What each module of a model costs a client of a chain, without the hardware: on tensors that hold no data."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np

from lola.chains.stages import StageProfile
from lola.models.cutting import ModuleChain
from lola.profile import Provenance
from lola.profiling.building import described
from lola.profiling.chain_run import run_stages
from lola.profiling.estimation import GRANULARITY_BYTES, fake_depths, reference_device, without_data
from lola.profiling.stage_memory import STAGE_MEMORY, module_costs
from lola.profiling.workload import ProfilingError, Workload
from lola.solvers.checks import FloatArray


def estimate_stages(
    workload: Workload, *, reference: str = "snapdragon-8-gen-3", allocator: str = "cpu"
) -> StageProfile:
    """Estimate what each module of a model costs, on any machine, for models of any size.

    Parameters
    ----------
    workload : Workload
        Its weights are never loaded.
    reference : str
        A device of `REFERENCES`. Its rate turns operations into seconds.
    allocator : {"cpu", "cuda"}
        As for `lola.profiling.estimate`.

    Returns
    -------
    StageProfile
        Operations as `lola.profiling.estimate` counts them: a module that only looks words up has none.

    Raises
    ------
    lola.models.ModelError
        If the model cannot be run this way, or is no chain.
    """
    device = reference_device(reference)
    with fake_depths(workload, allocator) as (depths, batch):
        chain = ModuleChain(depths)
        with without_data(depths):
            costs = module_costs(chain, batch, GRANULARITY_BYTES[allocator])
        known = described(workload, depths)
    forward, backward = _operations(workload) / device.flops_per_s
    return StageProfile(
        forward_s=forward,
        backward_s=backward,
        batch_size=workload.batch_size,
        **costs,
        provenance=Provenance(
            **known,
            source="estimated",
            hardware=device.assumed,
            note=f"rate: {device.source}",
            memory=f"{STAGE_MEMORY}, counted as on {allocator}",
        ),
    )


def bring_stages_to_reference(
    stages: StageProfile, workload: Workload, reference: str = "snapdragon-8-gen-3"
) -> StageProfile:
    """Scale measured seconds to a reference device, by one factor that the provenance records.

    Parameters
    ----------
    stages : StageProfile
        As measured.
    workload : Workload
        What they were measured for; its operations are counted.
    reference : str
        A device of `REFERENCES`.

    Returns
    -------
    StageProfile
        Its seconds add up to the operations divided by the reference's rate; how they divide is as measured.
    """
    device = reference_device(reference)
    operations = _operations(workload)
    if operations.shape[1] != stages.n_modules:
        raise ProfilingError(
            f"the stages have {stages.n_modules} modules, {workload.name} has {operations.shape[1]}; give its own"
        )
    seconds = stages.forward_s.sum() + stages.backward_s.sum()
    return stages.on_reference(device.name, float(operations.sum() / device.flops_per_s / seconds))


def _operations(workload: Workload) -> FloatArray:
    """Count the operations of each module, (2, N), forward and backward, always with eager attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    own = workload.attention in ("own", "eager")
    eager = workload if own else replace(workload, attention="eager")
    taken_apart = nullcontext() if workload.attention == "eager" else sdpa_kernel(SDPBackend.MATH)
    with fake_depths(eager) as (depths, batch), taken_apart:
        chain = ModuleChain(depths)
        depths.select_all()
        operations = np.zeros((2, len(chain)))

        @contextmanager
        def watch(module: int, direction: str) -> Iterator[None]:
            with FlopCounterMode(display=False) as counter:
                yield
            operations[int(direction == "backward"), module] = counter.get_total_flops()

        with without_data(depths):
            run_stages(chain, range(len(chain)), batch, watch)
    return operations
