"""What is profiled: a model, the batch it works on, and how it is adapted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lola.models.errors import ModelError
from lola.models.seeding import torch_seed
from lola.solvers.checks import positive_integer
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    from lola.profile import Profile

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
    model : str
        Name of a built-in configuration (`lola.models.loading.CONFIGS`), a local folder, or a hub name.
    batch_size : int
    sequence_length : int, optional
        Tokens of a text; 128 if left out. An image model's is given by its patches: leave it out.
    dtype : str
        ``"fp32"``, ``"fp16"`` or ``"bf16"``, or torch's names for them.
    attention : {"eager", "sdpa"}
        ``"eager"`` is what floating-point operations can be counted for on every device.
    mode : {"train", "eval"}
        With or without dropout.
    lora_rank : int
    lora_targets : tuple of str, optional
        Modules to adapt. Left out: query and value, or the joint projection where a model has but that.
    head : {"trained", "frozen"}
        Whether a classifier head is trained, and uploaded, with depth 1.
    seed : int
        Of random weights, of the adapters, and of the batch.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.
    """

    model: str
    batch_size: int = 32
    sequence_length: int | None = None
    dtype: str = "float32"
    attention: str = "eager"
    mode: str = "train"
    lora_rank: int = 8
    lora_targets: tuple[str, ...] | None = None
    head: str = "trained"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise LolaTypeError(f"model must be a name or a folder, got {self.model!r}")
        for field in ("batch_size", "lora_rank"):
            positive_integer(field, getattr(self, field))
        if self.sequence_length is not None:
            positive_integer("sequence_length", self.sequence_length)
        torch_seed("seed", self.seed)
        if self.dtype not in DTYPES:
            raise LolaValueError(f"dtype must be one of {', '.join(DTYPES)}; got {self.dtype!r}")
        object.__setattr__(self, "dtype", DTYPES[self.dtype])
        choices = {"attention": ("eager", "sdpa"), "mode": ("train", "eval"), "head": ("trained", "frozen")}
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise LolaValueError(f"{field} must be one of {', '.join(allowed)}; got {getattr(self, field)!r}")
        if self.lora_targets is not None:
            object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
