"""What is profiled: a model, the batch it works on, and how it is adapted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lola.models.errors import ModelError
from lola.models.seeding import torch_seed
from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lola.profile import Profile

_USUAL = {"batch_size": 32, "dtype": "float32", "attention": "eager"}
DTYPES = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}

ProfilingError = ModelError  # what cannot be split into depths cannot be profiled; the older name


class NotMonotoneError(ProfilingError):
    """A measured latency falls with depth.

    Attributes
    ----------
    profile : Profile or None
        What `measure` measured, made to rise by isotonic regression with the medians beside it, so that a long
        measurement is not lost: use it if you accept that.
    """

    profile: "Profile | None" = None


@dataclass(frozen=True)
class Workload:
    """One local iteration, whatever hardware runs it.

    Parameters
    ----------
    model : str or torch.nn.Module
        Name of a built-in configuration (`lola.models.loading.CONFIGS`), a local folder, or a hub name; or a module of
        yours, whose output must have a loss. The module is copied, and left as it is.
    batch_size : int, optional
        32 if left out. Of a module, its batch's.
    sequence_length : int, optional
        Tokens of a text; 128 if left out. An image or sound has its own: leave it out. Of a module, its batch's: the
        second dimension of its first tensor.
    dtype : str, optional
        ``"fp32"`` (if left out), ``"fp16"`` or ``"bf16"``, or torch's names for them. Of a module, its own.
    attention : {"eager", "sdpa"}, optional
        ``"eager"``, if left out, is what floating-point operations can be counted for on every device. A module that is
        none of transformers has its own, ``"own"``.
    mode : {"train", "eval"}
        With or without dropout.
    lora_rank : int
    lora_targets : tuple of str, optional
        Modules to adapt. Left out: query and value, or the joint projection where a model has but that, or what PEFT
        adapts in models of the type.
    head : {"trained", "frozen"}
        Whether a classifier head is trained, and uploaded, with depth 1.
    seed : int
        Of random weights, of the adapters, and of the batch.
    blocks : str, optional
        Where the blocks are, for example ``"encoder.layer"``; `lola.models.find_blocks` says more, and finds them if
        this is left out.
    prompts : int, optional
        Learnable tokens in front of each block's input, trained instead of LoRA; see `lola.models.attach_prompts`.
    batch : mapping of str to torch.Tensor, optional
        What a module is called with, labels among it: ``module(**batch)``. For a module alone.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; of a module and its batch, if one is given that is not theirs.
    """

    model: "str | nn.Module"
    # None stands for what is left out; it is filled in at once, so that no reader meets it.
    batch_size: int = None  # type: ignore[assignment]
    sequence_length: int | None = None
    dtype: str = None  # type: ignore[assignment]
    attention: str = None  # type: ignore[assignment]
    mode: str = "train"
    lora_rank: int = 8
    lora_targets: tuple[str, ...] | None = None
    head: str = "trained"
    seed: int = 0
    blocks: str | None = None
    prompts: int | None = None
    batch: "Mapping[str, torch.Tensor] | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str):
            self._follow_module()
        elif not self.model:
            raise LolaTypeError(f"model must be a name or a folder, got {self.model!r}; or a module, with its batch")
        elif self.batch is not None:
            raise LolaValueError(
                f"batch goes with a module, got the name {self.model!r}; leave it out, and give batch_size"
            )
        for name, usual in _USUAL.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
        for name in ("batch_size", "lora_rank"):
            positive_integer(name, getattr(self, name))
        for name in ("sequence_length", "prompts"):
            if getattr(self, name) is not None:
                positive_integer(name, getattr(self, name))
        if self.prompts is not None and self.lora_targets is not None:
            raise LolaValueError(
                "lora_targets must be left out with prompts, which are trained instead of LoRA; got "
                f"{shown(self.lora_targets)}"
            )
        torch_seed("seed", self.seed)
        if isinstance(self.model, str):
            if self.dtype not in DTYPES:
                raise LolaValueError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}")
            object.__setattr__(self, "dtype", DTYPES[self.dtype])
        kinds = ("own",) if self.attention == "own" and not isinstance(self.model, str) else ("eager", "sdpa")
        choices = {"attention": kinds, "mode": ("train", "eval"), "head": ("trained", "frozen")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise LolaValueError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        if self.blocks is not None and not isinstance(self.blocks, str):
            raise LolaTypeError(f"blocks must be a path within the model, got {type(self.blocks).__name__}")
        if isinstance(self.lora_targets, str):
            raise LolaTypeError(f"lora_targets must be a list of names, got {self.lora_targets!r}; put it in one")
        if self.lora_targets is not None:
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets))

    @property
    def name(self) -> str:
        """What the model is called: as it was named, or the class of a module."""
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    def _follow_module(self) -> None:
        """Take batch size, length, type of number and attention from a module and its batch."""
        import torch

        if not isinstance(self.model, torch.nn.Module):
            raise LolaTypeError(f"model must be a name, a folder or a torch module, got {type(self.model).__name__}")
        batch = self.batch
        if not isinstance(batch, Mapping) or not batch or not all(_is_batched(value) for value in batch.values()):
            raise LolaTypeError(
                f"batch must be a mapping of names to tensors, labels among them, for {self.name} to be called with; "
                f"got {shown(dict(batch)) if isinstance(batch, Mapping) else type(batch).__name__}"
            )
        first = next(iter(batch.values()))
        kinds = [p.dtype for p in self.model.parameters() if p.is_floating_point()]
        follows: dict[str, object] = {
            "batch_size": len(first),
            "sequence_length": first.shape[1] if first.dim() > 1 else 1,
            "dtype": str(kinds[0] if kinds else torch.float32).removeprefix("torch."),
        }
        if not hasattr(self.model, "set_attn_implementation"):
            follows["attention"] = "own"
        for name, value in follows.items():
            given = getattr(self, name)
            if given not in (None, value) and DTYPES.get(given) != value:
                raise LolaValueError(f"{name} of {self.name} and its batch is {value!r}, got {given!r}; leave it out")
            object.__setattr__(self, name, value)


def _is_batched(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) > 0
