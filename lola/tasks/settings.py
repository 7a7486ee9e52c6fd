"""What decides a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lola.adapters.setting import Setting
from lola.files.formats import block_limit
from lola.models.patterns import checked_ranks
from lola.models.seeding import torch_seed
from lola.solvers.checks import positive_integer, positive_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.tasks.glue import glue_task

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
_TEXTS = ("model", "task", "data", "method", "channel", "optimizer")
_FILES = ("fleet", "profile")
_COUNTS = ("local_steps", "batch", "seq")
# These do not change what a round does, so a run may go on with others.
_FREE = ("eval_every", "checkpoint_every")


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training run, each by the name of its option of ``lola train``.

    Parameters
    ----------
    model : str
        Folder or hub name of a BERT, RoBERTa or ELECTRA.
    task : str
        One of GLUE's: a key of `lola.tasks.glue.GLUE`.
    data : str
        GLUE's folder, or ``"hub"``; see `read_glue`.
    method : str
        One of `lola.METHODS`.
    fleet, profile : str, optional
        Files. Left out: the fleet of the built-in scenario, and an estimate for the model.
    bandwidth_hz : float
    max_blocks : int or "all"
        The most consecutive blocks that one device may take in a round; see `lola.Problem`.
    channel : str
        ``"static"``: the fleet's; ``"rayleigh"``: new each round, around each device's own mean SNR where `fleet` names
        a file and else as in the paper; or a file of traces.
    participation, failure, refuse_above, quarantine_after
        See `lola.adapters.Setting`.
    alpha : float, optional
        Labels are dealt to the devices by a Dirichlet distribution; see `dirichlet_shards`. Left out: evenly.
    train_rows : int, optional
        Train on so many rows. Left out: on all.
    local_steps : int
        Batches of a block in a round.
    batch, seq : int
        Texts in a batch, and tokens of a text at most.
    rank : int or sequence of int
        LoRA's; or a rank of each block, depth 1 first, such as a `lola.RankPlan` has.
    lora_alpha : float, optional
        LoRA's, of the largest rank; twice that if left out.
    freeze_head : bool
        Leave the classifier head as it was loaded or drawn. Then every block uploads the same, which some methods want.
    optimizer : {"adam", "adamw", "sgd"}
        The server's.
    lr : float
        Its learning rate.
    seed : int
        Everything random follows from it.
    eval_every, checkpoint_every : int
        Rounds between.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described. Files are looked at when the run is prepared.
    """

    model: str
    task: str
    data: str
    method: str = "jbba"
    fleet: str | None = None
    profile: str | None = None
    bandwidth_hz: float = 100e6
    max_blocks: int | Literal["all"] = 1
    channel: str = "static"
    participation: float = 1.0
    failure: float = 0.0
    refuse_above: float | None = None
    quarantine_after: int | None = None
    alpha: float | None = None
    train_rows: int | None = None
    local_steps: int = 1
    batch: int = 32
    seq: int = 128
    rank: int | tuple[int, ...] = 8
    lora_alpha: float | None = None
    freeze_head: bool = False
    optimizer: str = "adam"
    lr: float = 1e-3
    seed: int = 0
    eval_every: int = 10
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name in (*_TEXTS, *_FILES):
            value = getattr(self, name)
            if not isinstance(value, str) and (name in _TEXTS or value is not None):
                raise LolaTypeError(f"{name} must be text, got {shown(value)}")
        if not isinstance(self.freeze_head, bool):
            raise LolaTypeError(f"freeze_head must be True or False, got {shown(self.freeze_head)}")
        glue_task(self.task)
        for name in (*_COUNTS, *(["train_rows"] if self.train_rows is not None else [])):
            positive_integer(name, getattr(self, name))
        block_limit("max_blocks", self.max_blocks)
        for name in ("bandwidth_hz", "lr", *(["alpha"] if self.alpha is not None else [])):
            positive_number(name, getattr(self, name))
        object.__setattr__(self, "rank", checked_ranks(self.rank))
        lora_alpha = 2 * self.largest_rank if self.lora_alpha is None else self.lora_alpha
        object.__setattr__(self, "lora_alpha", positive_number("lora_alpha", lora_alpha))
        if self.optimizer not in OPTIMIZERS:
            raise LolaValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {shown(self.optimizer)}")
        self.of_session()
        torch_seed("seed", self.seed)

    @property
    def largest_rank(self) -> int:
        """The rank of all blocks, or the largest where they differ."""
        return self.rank if isinstance(self.rank, int) else max(self.rank)

    def of_session(self) -> Setting:
        """Return what of it a session wants to know."""
        return Setting(
            method=self.method,
            seed=self.seed,
            participation=self.participation,
            failure=self.failure,
            refuse_above=self.refuse_above,
            quarantine_after=self.quarantine_after,
            checkpoint_every=self.checkpoint_every,
            evaluate_every=self.eval_every,
        )

    def recorded(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with the one that was stopped, paths made absolute."""
        settings = {name: value for name, value in asdict(self).items() if name not in _FREE}
        for name in ("model", "data", "channel", *_FILES):
            if settings[name] is not None and Path(settings[name]).exists():
                settings[name] = str(Path(settings[name]).resolve())
        return settings
