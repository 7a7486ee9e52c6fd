"""What ranks of LoRA are worth to each block of a model, measured on data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.air.placement import over_the_air
from lola.models.depths import Batch, Depths, Loss, attach_lora, loss_of_output
from lola.models.errors import ModelError
from lola.models.loading import import_transformers, reading
from lola.models.running import expect_batch, expect_batches
from lola.models.seeding import seeded
from lola.profile import BITS_PER_VALUE, Provenance
from lola.profiling.machine import cpu_name, software
from lola.ranks.importance import MEASURES, SINGULAR, Importance
from lola.solvers.checks import SMALLEST, FloatArray, positive_integer, positive_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

Progress = Callable[[str, int, int], None]
_USUAL_RANK = 8
_ADAPTER = "default"  # what peft calls it unless told


def measure_importance(
    model: nn.Module | Depths,
    batches: Iterable[Batch],
    *,
    measure: str = SINGULAR,
    max_rank: int | None = None,
    steps: int = 50,
    learning_rate: float = 1e-3,
    targets: Sequence[str] | None = None,
    blocks: str | None = None,
    train_head: bool = True,
    loss: Loss = loss_of_output,
    seed: int = 0,
    progress: Progress | None = None,
) -> Importance:
    """Measure what each rank of LoRA is worth to each block, on data.

    A copy of the model is trained for some steps by Adam, LoRA of rank `max_rank` in every block and the head at once;
    what its adapters have come to is what is measured. The model itself is left as it is.

    Parameters
    ----------
    model : torch.nn.Module or Depths
        Without adapters; or with the ones of a run, which are trained on from where they are. Nothing over the air.
    batches : iterable of mapping of str to torch.Tensor
        What the model is called with, labels among it. They are trained on in turn, from the first again after the
        last, and the sensitivity is averaged over all of them.
    measure : {"singular", "sensitivity"}
        ``"singular"``: the i-th largest squared singular value of the update (alpha/rank)·B·A, added up over the
        block's targets. Cut to ρ ranks in each target, the update loses just the gains of the ranks beyond ρ, and no
        other update of these ranks is nearer in Frobenius norm (Eckart and Young). ``"sensitivity"``: AdaLoRA's score
        |w·∇w| of each direction, a column of B with its row of A, added up over their entries and averaged over the
        batches, at the trained weights and without dropout; sorted falling within each target.
    max_rank : int, optional
        R: the ranks that are measured; 8 if left out. Of `Depths`, their own: leave it out.
    steps : int
        Of training. 0 with `Depths` alone, whose adapters have been trained already.
    learning_rate : float
        Adam's.
    targets, blocks, train_head
        As for `lola.models.attach_lora`; of `Depths`, their own: leave them out.
    loss : callable, optional
        ``loss(model, batch)``; the model's own if left out.
    seed : int
        Of the adapters' first weights and of dropout.
    progress : callable, optional
        Called with what is done, how many of it, and how many there are.

    Returns
    -------
    Importance
        Entry 0 is depth 1, the block nearest the output.

    Raises
    ------
    ModelError
        If the model cannot be adapted or run, its loss is not finite, or nothing was learnt.
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Zhang et al. 2023, "AdaLoRA", section 3.2, has the sensitivity. LoRA starts with B = 0, where both measures are 0:
    that is what the steps are for.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=8, vocab_size=50)
    >>> texts = torch.arange(8).reshape(2, 4)
    >>> model, batches = transformers.GPT2LMHeadModel(config), [{"input_ids": texts, "labels": texts}]
    >>> importance = lola.profiling.measure_importance(model, batches, max_rank=3, steps=2)
    >>> importance.gain.shape, importance.cost.tolist(), importance.name[0]
    ((2, 3), [64, 64], 'transformer.h.1')
    """
    import_transformers()
    import torch

    if measure not in MEASURES:
        raise LolaValueError(f"measure must be {' or '.join(MEASURES)}, got {shown(measure)}; name one of them")
    positive_number("learning_rate", learning_rate)
    if not (isinstance(model, Depths) and isinstance(steps, int | np.integer) and steps == 0):
        positive_integer("steps", steps)
    expect_batches(batches)
    listed = list(batches)
    if not listed:
        raise LolaValueError("batches is empty; give at least one batch, with labels")
    for batch in listed:
        expect_batch(batch)
    with seeded(seed, _device_of(_module_of(model)).type), torch.enable_grad():
        depths = _copied(model, max_rank, targets, blocks, train_head)
        report = progress or (lambda *_: None)
        _train(depths, listed, steps, learning_rate, loss, report)
        score = _squared_singular_values if measure == SINGULAR else _sensitivity(depths, listed, loss, report)
    assert isinstance(depths.rank, int)
    rows = [_gains(layers, depths.rank, score) for layers in map(_layers, depths.blocks)]
    if not any(row.any() for row in rows):
        raise ModelError(
            "nothing was learnt: every rank is worth 0; train for more steps, or at a higher learning rate"
        )
    adapters = [sum(layer.parameters_of_adapter for layer in _layers(block)) for block in depths.blocks]
    return Importance(
        gain=rows,
        cost=[count // depths.rank for count in adapters],
        fixed_bits=[depths.upload_bits(n) - BITS_PER_VALUE * count for n, count in enumerate(adapters, start=1)],
        name=_names(depths),
        measure=measure,
        provenance=_provenance(depths, listed, steps, learning_rate, seed),
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """One adapted module: A, (rank, in), B, (out, rank), and what scales their product."""

    down: nn.Parameter
    up: nn.Parameter
    scaling: float

    @property
    def parameters_of_adapter(self) -> int:
        return self.down.numel() + self.up.numel()


def _layers(block: nn.Module) -> list[_Layer]:
    """Return a block's adapters."""
    from peft.tuners.lora import LoraLayer

    found: list[Any] = [module for module in block.modules() if isinstance(module, LoraLayer)]
    name = _ADAPTER
    return [_Layer(one.lora_A[name].weight, one.lora_B[name].weight, one.scaling[name]) for one in found]


def _module_of(model: nn.Module | Depths) -> nn.Module:
    from torch import nn

    if isinstance(model, Depths):
        return model.model
    if not isinstance(model, nn.Module):
        raise LolaTypeError(
            f"model must be a torch module or a lola.models.Depths, got {type(model).__name__}; load it"
        )
    return model


def _device_of(model: nn.Module) -> torch.device:
    """Return where a model is, and refuse one that says nothing of ranks: without weights, or with noise in them."""
    first = next(model.parameters(), None)
    if first is None:
        raise ModelError(
            f"a model with parameters was wanted, got {type(model).__name__} without any; load its weights"
        )
    if radios := dict(over_the_air(model)):
        raise LolaValueError(
            "a model that is not over the air was wanted, for noise would be measured with it, got one with "
            f"{', '.join(radios)} there; call the remove of each Placement before"
        )
    return first.device


def _copied(
    model: nn.Module | Depths,
    max_rank: int | None,
    targets: Sequence[str] | None,
    blocks: str | None,
    train_head: bool,
) -> Depths:
    """Copy a model with the adapters that it has, or put adapters into the copy."""
    if not isinstance(model, Depths):
        rank = _USUAL_RANK if max_rank is None else positive_integer("max_rank", max_rank)
        if blocks is not None and not isinstance(blocks, str):
            raise LolaTypeError(f"blocks must be a path within the model, which is copied, got {type(blocks).__name__}")
        with reading(f"{type(model).__name__}: cannot be copied to be measured"):
            copied = copy.deepcopy(model)
        return attach_lora(copied, rank=rank, targets=targets, blocks=blocks, train_head=train_head)
    named = {"max_rank": max_rank, "targets": targets, "blocks": blocks, "train_head": None if train_head else False}
    if told := [name for name, value in named.items() if value is not None]:
        raise LolaValueError(
            f"max_rank, targets, blocks and train_head are those of the depths, got {' and '.join(told)} beside them; "
            f"leave {'it' if len(told) == 1 else 'them'} out"
        )
    if not isinstance(model.rank, int) or not model.rank:
        raise LolaValueError(
            f"LoRA of one rank in every block was wanted, to see what each rank is worth, got {model}; attach it anew "
            "with rank=8"
        )
    with model.lock:
        return copy.deepcopy(model)


def _train(
    depths: Depths, batches: list[Batch], steps: int, learning_rate: float, loss: Loss, report: Progress
) -> None:
    """Train all depths at once by Adam, the batches in turn."""
    import torch

    depths.model.train()
    depths.select_all()
    optimizer = torch.optim.Adam(depths.all_parameters(), lr=learning_rate)
    for step in range(steps):
        _backward(depths, batches[step % len(batches)], loss)
        optimizer.step()
        report("training", step + 1, steps)


def _backward(depths: Depths, batch: Batch, loss: Loss) -> None:
    """Take all gradients of one batch, from none."""
    import torch

    depths.model.zero_grad(set_to_none=True)
    value = loss(depths.model, batch)
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        came = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise LolaTypeError(f"a loss must be a tensor of one value, got {came}; take the mean, and no item() of it")
    if not value.requires_grad:
        raise LolaValueError("the loss depends on nothing that is trained; is it the model's loss?")
    if not torch.isfinite(value):
        raise ModelError(f"a finite loss was wanted to learn from, got {value.item():g}; lower the learning rate")
    value.backward()


def _squared_singular_values(layer: _Layer) -> FloatArray:
    """Return those of an adapter's update, (rank,), falling; by way of two small triangles, not of the product."""
    down, up = (np.asarray(part.detach().cpu().double()) for part in (layer.down, layer.up))
    triangles = np.linalg.qr(up).R @ np.linalg.qr(down.T).R.T
    values = np.zeros(len(down))  # a module narrower than the rank has fewer
    found = np.linalg.svd(layer.scaling * triangles, compute_uv=False)
    values[: len(found)] = found**2
    return values


def _sensitivity(depths: Depths, batches: list[Batch], loss: Loss, report: Progress) -> Callable[[_Layer], FloatArray]:
    """Average |w·∇w| over the batches; return what looks a layer's up, by direction, falling."""
    import torch

    depths.model.eval()
    depths.select_all()
    layers = [layer for block in depths.blocks for layer in _layers(block)]
    score_of = {id(layer.down): np.zeros(len(layer.down)) for layer in layers}
    for number, batch in enumerate(batches, start=1):
        _backward(depths, batch, loss)
        for layer in layers:
            for part, axis in ((layer.down, 1), (layer.up, 0)):
                if part.grad is None:  # the loss does not depend on it
                    continue
                product = torch.abs(part.detach().double() * part.grad.double()).sum(dim=axis)
                score_of[id(layer.down)] += np.asarray(product.cpu()) / len(batches)
        report("scoring", number, len(batches))
    return lambda layer: np.sort(score_of[id(layer.down)])[::-1]


def _gains(layers: list[_Layer], rank: int, score: Callable[[_Layer], FloatArray]) -> FloatArray:
    """Add up over a block's targets what its i-th ranks are worth, (rank,); what is as good as 0 is 0."""
    gains = np.sum([score(layer) for layer in layers], axis=0) if layers else np.zeros(rank)
    return np.where(gains < SMALLEST, 0.0, gains)


def _names(depths: Depths) -> list[str]:
    """Return what the model calls its blocks; of one made of several modules, their names."""
    name_of = {id(module): name for name, module in depths.model.named_modules()}
    return [
        name_of.get(id(block)) or "+".join(name_of[id(part)] for part in block.children()) for block in depths.blocks
    ]


def _provenance(depths: Depths, batches: list[Batch], steps: int, learning_rate: float, seed: int) -> Provenance:
    import torch

    columns = [batches[0]["input_ids"]] if "input_ids" in batches[0] else list(batches[0].values())
    parameter = depths.parameters(1)[0]
    on_cuda, threads = parameter.device.type == "cuda", torch.get_num_threads()
    source = str(getattr(depths.model, "name_or_path", "") or type(depths.model).__name__)
    return Provenance(
        model=Path(source).name,
        batch_size=len(columns[0]),
        sequence_length=next((column.shape[1] for column in columns if column.dim() == 2), 1),
        dtype=str(parameter.dtype).removeprefix("torch."),
        source="measured",
        hardware=torch.cuda.get_device_name() if on_cuda else f"{cpu_name()}, {threads} thread{'s' * (threads > 1)}",
        note=f"after {steps} steps of Adam at {learning_rate:g} on {len(batches)} batches",
        weights="given",
        head=depths.head,
        lora_rank=depths.rank if isinstance(depths.rank, int) else None,
        lora_targets=depths.targets,
        seed=seed,
        threads=threads,
        software=software(),
    )
