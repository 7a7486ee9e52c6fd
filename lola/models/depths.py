"""The depths of a model: its blocks from the output, adapted once by LoRA, and one selected at a time."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lola.models.blocks import can_adapt, check_blocks, find_blocks, find_targets, head_names
from lola.models.errors import ModelError
from lola.models.guard import refuse_checkpointing, stopping_at
from lola.models.loading import import_transformers
from lola.models.patterns import check_ranks, checked_ranks, lora_config, rank_by_depth
from lola.models.running import running
from lola.models.seeding import seeded
from lola.profile import BITS_PER_VALUE
from lola.solvers.checks import positive_integer, positive_number
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from lola.files.formats import StrPath

Batch = Mapping[str, "torch.Tensor"]
Loss = Callable[[Any, Any], "torch.Tensor"]


class Depths:
    """A model with LoRA in every block, of which one depth or a range of them is trainable. Made by `attach_lora`.

    Attributes
    ----------
    model : torch.nn.Module
        The model, with adapters in place of the targets.
    blocks : list of torch.nn.Module
        In depth order.
    rank : int or tuple of int
        LoRA's; where it differs, a rank of each depth, 0 at depth 1 if that trains the head alone.
    alpha : float
        LoRA's: an adapter's output is multiplied by alpha / rank, of the largest where ranks differ.
    targets : tuple of str
    head : str
        ``"trained"`` if the classifier head goes with depth 1, else ``"frozen"``.
    trained : tuple of int
        What depth each of the blocks was before those of rank 0 were left out: 1 … L where none were.
    lock : threading.RLock
        Held while a gradient is computed, a round applied or an update taken: what one depth trains is a state of the
        whole model, so threads that share it take turns. For gradients at the same time, give each a model of its own.
    """

    _adapter = "lora_"

    def __init__(
        self,
        model: "nn.Module",
        blocks: "list[nn.Module]",
        rank: int | tuple[int, ...],
        alpha: float,
        targets: tuple[str, ...],
        train_head: bool,
        trained: tuple[int, ...],
    ) -> None:
        self.model, self.blocks, self.rank, self.alpha, self.targets = model, blocks, rank, alpha, targets
        self._head_names = head_names(model)
        self._heads = [getattr(model, name) for name in self._head_names if train_head]
        self.head = "trained" if self._heads else "frozen"
        self.trained = trained
        self.lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}  # a lock is never copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.RLock())

    def __repr__(self) -> str:
        ranks = f"rank {self.rank}" if isinstance(self.rank, int) else f"ranks {', '.join(map(str, self.rank))}"
        lora = f"LoRA of {ranks} in {', '.join(self.targets)}"
        return f"<Depths of {type(self.model).__name__}: {len(self)} blocks, {lora}, head {self.head}>"

    def __len__(self) -> int:
        return len(self.blocks)

    def parameters(self, depth: int) -> "list[nn.Parameter]":
        """Return what a depth trains and uploads: its block's adapters, and the head with depth 1."""
        return list(self.named_parameters(depth).values())

    def named_parameters(self, depth: int) -> "dict[str, nn.Parameter]":
        """Return what a depth trains, by its name in the model, in the order of `parameters`."""
        owner_of = self._owners[self._index(depth)]
        return {name: module._parameters[key] for name, (module, key) in owner_of.items()}  # type: ignore[misc]

    def all_parameters(self) -> "list[nn.Parameter]":
        """Return what all depths train, depth 1 first: what the server's optimizer is made over."""
        return [parameter for depth in range(1, len(self) + 1) for parameter in self.parameters(depth)]

    def all_named_parameters(self) -> "dict[str, nn.Parameter]":
        """Return what all depths train, by its name in the model, in the order of `all_parameters`."""
        return {
            k: parameter for depth in range(1, len(self) + 1) for k, parameter in self.named_parameters(depth).items()
        }

    @cached_property
    def _owners(self) -> "list[dict[str, tuple[nn.Module, str]]]":
        """Where each depth's parameters are, by their names in the model; kept, for walking a model takes long."""
        owner_of: dict[int, tuple[str, nn.Module, str]] = {}
        for prefix, module in self.model.named_modules():
            for key, parameter in module._parameters.items():
                owner_of.setdefault(id(parameter), (f"{prefix}.{key}" if prefix else key, module, key))
        owners = []
        for depth, block in enumerate(self.blocks, start=1):
            trained = [parameter for name, parameter in block.named_parameters() if self._adapter in name]
            if depth == 1:
                trained += [parameter for head in self._heads for parameter in head.parameters()]
            owners.append({name: (module, key) for name, module, key in (owner_of[id(p)] for p in trained)})
        return owners

    def upload_bits(self, depth: int, bits_per_value: int = BITS_PER_VALUE) -> float:
        """Return the size of a depth's gradient in bits."""
        return float(bits_per_value * sum(p.numel() for p in self.parameters(depth)))

    def select(self, depths: int | range) -> None:
        """Make one depth, or a range such as ``range(2, 5)``, trainable and everything else frozen.

        No adapter is rebuilt. Of a range, one backward pass gives all gradients, and stops at the deepest.

        Raises
        ------
        ValueError, TypeError
            If there is no such depth.
        ModelError
            If gradient checkpointing or ``enable_input_require_grads`` is on, or anything below requires a gradient.
        """
        neighbours = self._range(depths)
        refuse_checkpointing(self.model)
        self.model.requires_grad_(False)
        chosen = [parameter for depth in neighbours for parameter in self.parameters(depth)]
        for parameter in chosen:
            parameter.requires_grad_(True)
        allowed = {id(p) for p in chosen}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and id(parameter) not in allowed:
                raise ModelError(f"depth {neighbours[-1]}: {name} requires a gradient, though another depth owns it")

    def select_all(self) -> None:
        """Make every depth trainable, as on a device that trains alone."""
        self.model.requires_grad_(False)
        for parameter in self.all_parameters():
            parameter.requires_grad_(True)

    @contextmanager
    def guard(self, depths: int | range) -> "Iterator[None]":
        """Refuse, while the model runs, what would make backward run on below the block.

        That is an input of the block that requires a gradient, a block that runs again on what it gave, or blocks that
        run in another order than they were given in.

        Raises
        ------
        ModelError
            From within the forward pass.
        """
        with stopping_at(self.blocks, self._range(depths)[-1]):
            yield

    def save_pretrained(
        self, folder: "StrPath", *, merged: bool = False, tokenizer: Any = None, card: str | None = None
    ) -> "Path":
        """Write a folder that loads without lola: by PEFT on its base or, merged, alone; see `lola.models.export`."""
        from lola.models.export import export

        return export(self.model, self._head_names, folder, merged=merged, tokenizer=tokenizer, card=card)

    def _index(self, depth: int) -> int:
        if positive_integer("depth", depth) > len(self):
            raise LolaValueError(f"depth must be at most {len(self)}, the number of blocks; got {depth}")
        return depth - 1

    def _range(self, depths: int | range) -> range:
        if not isinstance(depths, range):
            return range(self._index(depths) + 1, depths + 1)
        if depths.step != 1 or not 1 <= depths.start < depths.stop <= len(self) + 1:
            known = f"depths must be neighbours between 1 and {len(self)}, such as range(1, {len(self) + 1}) for all"
            raise LolaValueError(f"{known}; got {depths}")
        return depths


def attach_lora(
    model: "nn.Module",
    *,
    rank: int | Sequence[int] = 8,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    blocks: "str | Sequence[nn.Module] | None" = None,
    train_head: bool = True,
    zero_init: bool = True,
    seed: int | None = None,
) -> Depths:
    """Adapt every block by LoRA, once, in place.

    Parameters
    ----------
    model : torch.nn.Module
        A model whose output has a loss. It is changed: adapters stand in for the targets.
    rank : int or sequence of int
        One for all blocks, or a rank of each in depth order, such as a `lola.RankPlan` has. A block of rank 0 gets no
        adapter and is no depth: those below it move up. Depth 1 stays one, for the head, where that is trained.
    alpha : float, optional
        LoRA's, which scales what an adapter adds by alpha / rank; twice the rank if left out. Where ranks differ, it is
        that of the largest, and the others' are in proportion, so that all are scaled alike.
    targets : sequence of str, optional
        Names of the modules to adapt. Left out: query and value, or the joint projection, or what PEFT adapts in models
        of the type.
    blocks : str or sequence of torch.nn.Module, optional
        The blocks **in the model's order**, the one nearest the input first, or where they are: see `find_blocks`,
        which finds them if this is left out. To join several modules into one block, pass a `torch.nn.ModuleList` of
        them.
    train_head : bool
        Whether a classifier head (``classifier``, ``score`` and the like) is trained with depth 1.
    zero_init : bool
        Start LoRA's B at zero, as usual. Then A's gradients are zero at first: tests that compare gradients say False.
    seed : int, optional
        Of the adapters' first weights. Left out, they are drawn from torch's random state, as torch itself does.

    Returns
    -------
    Depths
        With depth 1 selected.

    Raises
    ------
    ModelError
        If there are no blocks, they overlap or are not in the model's order, a target is missing, a block would stay
        without an adapter, or gradient checkpointing is on. The model is as it was.
    TypeError, ValueError
        If an argument is not as described.
    """
    import_transformers()
    from peft import get_peft_model

    checked = checked_ranks(rank)
    largest = checked if isinstance(checked, int) else max(checked)
    scale = positive_number("alpha", 2 * largest if alpha is None else alpha)
    if adapted := [name for name, _ in model.named_parameters() if "lora_" in name]:
        raise ModelError(f"the model has adapters already, such as {adapted[0]}; adapt it once, or load it anew")
    if blocks is None or isinstance(blocks, str):
        deepest_first = find_blocks(model, blocks)
    else:
        deepest_first = list(blocks)[::-1]
    check_blocks(model, deepest_first[::-1])
    ranks = rank_by_depth(checked, len(deepest_first))
    wanted = find_targets(model, deepest_first, targets)
    rank_of = {id(m): own for block, own in zip(deepest_first, ranks, strict=True) for m in block.modules() if own}
    paths = {
        name: rank_of[id(module)]
        for name, module in model.named_modules()
        if id(module) in rank_of and name.split(".")[-1] in wanted and can_adapt(module)
    }
    # An adapter takes its target's place in the module around it: a block that is the target itself would not have it.
    parents = {id(model.get_submodule(path.rpartition(".")[0])) for path in paths}
    for depth, block in enumerate(deepest_first, start=1):
        if ranks[depth - 1] and not any(id(module) in parents for module in block.modules()):
            raise ModelError(
                f"depth {depth} has no module named {' or '.join(wanted)}; its block would upload nothing; name others"
            )
    refuse_checkpointing(model)
    head_alone = train_head and bool(head_names(model)) and not ranks[0]
    trained = tuple(n for n, own in enumerate(ranks, start=1) if own or (head_alone and n == 1))
    kept = tuple(ranks[n - 1] for n in trained)
    rank_or_ranks = largest if set(kept) == {largest} else kept
    left = [deepest_first[n - 1] for n in trained]
    depths = Depths(model, left, rank_or_ranks, scale, wanted, train_head, trained)
    config = lora_config(model, paths, scale, zero_init)
    with seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # peft asks transformers by an old name
        try:
            get_peft_model(model, config, low_cpu_mem_usage=next(model.parameters()).is_meta)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"LoRA of rank {largest} finds no memory: {reason}; take a smaller rank") from None
    check_ranks(model, paths, scale / largest)
    depths.select(1)
    return depths


def loss_of_output(model: Any, batch: "Batch") -> "torch.Tensor":
    """Take the loss from what a model gives: an output or mapping that has one, a tuple that begins with it, or it."""
    import torch

    if not isinstance(batch, Mapping):
        raise LolaTypeError(
            f"a batch must be a mapping of names to tensors, labels among them, got {type(batch).__name__}; or give "
            "your own loss(model, batch)"
        )
    with running(model, batch):
        output = model(**batch)
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss
    first = output[0] if isinstance(output, tuple) and output else output
    if isinstance(first, torch.Tensor) and first.dim() == 0:
        return first
    raise ModelError(
        f"{type(model).__name__} gives no loss for its labels: a loss, alone, first of a tuple, or named so in an "
        f"output or mapping was wanted, got {_described(output)} for a batch of {', '.join(batch)}; a batch needs "
        "labels, and the model a head"
    )


def _described(output: object) -> str:
    """Say of a model's output what it is made of."""
    if isinstance(output, Mapping):
        return f"{type(output).__name__} of {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, tuple):
        return f"{type(output).__name__} of {', '.join(map(_described, output)) or 'nothing'}"
    shape = getattr(output, "shape", None)
    return type(output).__name__ if shape is None else f"{type(output).__name__} of shape {tuple(shape)}"
