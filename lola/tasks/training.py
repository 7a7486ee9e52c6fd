"""A training run: what decides it, and the session that follows from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lola.adapters.session import CooperativeSession
from lola.adapters.setting import Setting
from lola.adapters.shards import ShardedData, dirichlet_shards, iid_shards, trim_padding
from lola.channel import Channel, RayleighFading
from lola.files.formats import StrPath
from lola.files.problems import builtin_scenario, load_fleet, load_profile
from lola.files.traces import TraceReplay, load_traces
from lola.models.depths import Depths, Loss, attach_lora, loss_of_output
from lola.models.loading import import_transformers
from lola.models.seeding import seeded, torch_seed
from lola.problem import Problem
from lola.profile import Profile
from lola.solvers.checks import positive_integer, positive_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.tasks.glue import Examples, GlueData, glue_task, read_glue, score
from lola.tasks.texts import TextClassifier, load_classifier

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
_TEXTS = ("model", "task", "data", "method", "channel", "optimizer")
_FILES = ("fleet", "profile")
_COUNTS = ("local_steps", "batch", "seq", "rank")
# These do not change what a round does, so a run may go on with others.
_FREE = ("eval_every", "checkpoint_every")
_SUBSET = 4  # what a random generator is for; shards and the dev split have the numbers before it


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
    channel : str
        ``"static"``: the fleet's; ``"rayleigh"``: new each round; or a file of traces.
    participation, failure, refuse_above
        See `lola.adapters.Setting`.
    alpha : float, optional
        Labels are dealt to the devices by a Dirichlet distribution; see `dirichlet_shards`. Left out: evenly.
    train_rows : int, optional
        Train on so many rows. Left out: on all.
    local_steps : int
        Batches of a block in a round.
    batch, seq : int
        Texts in a batch, and tokens of a text at most.
    rank : int
        LoRA's.
    lora_alpha : float, optional
        LoRA's; twice the rank if left out.
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
    channel: str = "static"
    participation: float = 1.0
    failure: float = 0.0
    refuse_above: float | None = None
    alpha: float | None = None
    train_rows: int | None = None
    local_steps: int = 1
    batch: int = 32
    seq: int = 128
    rank: int = 8
    lora_alpha: float | None = None
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
        glue_task(self.task)
        for name in (*_COUNTS, *(["train_rows"] if self.train_rows is not None else [])):
            positive_integer(name, getattr(self, name))
        for name in ("bandwidth_hz", "lr", *(["alpha"] if self.alpha is not None else [])):
            positive_number(name, getattr(self, name))
        lora_alpha = 2 * self.rank if self.lora_alpha is None else self.lora_alpha
        object.__setattr__(self, "lora_alpha", positive_number("lora_alpha", lora_alpha))
        if self.optimizer not in _OPTIMIZERS:
            raise LolaValueError(f"optimizer must be one of {', '.join(_OPTIMIZERS)}; got {shown(self.optimizer)}")
        self.of_session()
        torch_seed("seed", self.seed)

    def of_session(self) -> Setting:
        """Return what of it a session wants to know."""
        return Setting(
            method=self.method,
            seed=self.seed,
            participation=self.participation,
            failure=self.failure,
            refuse_above=self.refuse_above,
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


@dataclass(frozen=True, eq=False)
class Training:
    """A run that is ready to begin, or to go on.

    Attributes
    ----------
    session : CooperativeSession
    notes : tuple of str
        What was read, dealt out and assumed, a line each.
    """

    session: CooperativeSession
    notes: tuple[str, ...]


class Texts(Protocol):
    """Turns texts into tensors, and tensors into predictions; a `TextClassifier` does."""

    def encode(self, examples: Examples, length: int, /) -> Batch:
        """Return what the model takes, labels among it; see `TextClassifier.encode`."""
        ...

    def predict(self, columns: Batch, /) -> NDArray[Any]:
        """Return classes, or the values of a regression, in the order of the rows."""
        ...


def prepare_training(settings: TrainingSettings, *, folder: StrPath | None = None) -> Training:
    """Read, load, tokenise, adapt and deal out.

    Parameters
    ----------
    settings : TrainingSettings
    folder : path-like, optional
        The run's; see `CooperativeSession`. The run there, if any, goes on.

    Returns
    -------
    Training

    Raises
    ------
    FormatError, ValueError, OSError
        If a file, the model or the data cannot be used, or they do not fit each other.
    ImportError
        If a package of the extra ``train`` is missing.
    """
    import_transformers()
    score(settings.task, [0], [0])  # a missing package is better missed now than at the first evaluation
    data = read_glue(settings.task, settings.data, seed=settings.seed)
    if settings.train_rows is not None:
        data = replace(data, train=_some(data.train, settings.train_rows, settings.seed))
    fleet = load_fleet(settings.fleet) if settings.fleet else builtin_scenario().fleet
    channel = _channel(settings, fleet.n_devices)
    with seeded(settings.seed):
        classifier = load_classifier(settings.model, glue_task(settings.task).n_labels, seed=None)
        depths = attach_lora(classifier.model, rank=settings.rank, alpha=settings.lora_alpha)
    profile = load_profile(settings.profile) if settings.profile else _estimated(classifier, settings)
    problem = Problem(profile, fleet, settings.bandwidth_hz, settings.local_steps)
    session = make_session(settings, depths, classifier, data, problem, channel=channel, folder=folder)
    dealt = "evenly" if settings.alpha is None else f"by Dirichlet({settings.alpha:g})"
    notes = [
        f"data: {data.source}",
        f"{len(data.train)} rows to train on, dealt {dealt} to {fleet.n_devices} devices; {len(data.dev)} to score",
        f"profile: {profile.provenance or 'of unknown provenance'}",
    ]
    known, trained = profile.provenance, (settings.batch, settings.seq)
    if known is not None and (known.batch_size, known.sequence_length) != trained:
        notes.append(f"note: the clock is of that batch and sequence; {trained[0]} and {trained[1]} are trained")
    if session.version:
        notes.append(f"goes on from round {session.version} in {folder}")
    return Training(session, tuple(notes))


def make_session(
    settings: TrainingSettings,
    depths: Depths,
    texts: Texts,
    data: GlueData,
    problem: Problem,
    *,
    channel: Channel | None = None,
    folder: StrPath | None = None,
    loss: Loss = loss_of_output,
    collate: Callable[[Batch], Batch] = trim_padding,
) -> CooperativeSession:
    """Tokenise and deal out what was read, for a model that was loaded and adapted.

    Parameters
    ----------
    settings : TrainingSettings
        The model, the files, the rank and the channel that it names are not looked at.
    depths : lola.models.Depths
    texts : Texts
        Of the same model.
    data : GlueData
    problem : Problem
    channel, folder, loss
        See `CooperativeSession`.
    collate : callable
        See `ShardedData`.

    Returns
    -------
    CooperativeSession
        Evaluated on the dev split, as GLUE scores it.

    Raises
    ------
    ValueError, FormatError, OSError
        If one does not fit another, or the folder cannot be used.
    """
    import torch

    task, seed, n_rows = settings.task, settings.seed, len(data.train)
    if settings.alpha is None:
        shards = iid_shards(n_rows, problem.n_devices, seed=seed)
    else:
        labels = data.train.labels.astype(np.int64)
        shards = dirichlet_shards(labels, problem.n_devices, alpha=settings.alpha, seed=seed)
    columns, dev = texts.encode(data.train, settings.seq), texts.encode(data.dev, settings.seq)
    optimizer = getattr(torch.optim, _OPTIMIZERS[settings.optimizer])
    depths.model.train()
    return CooperativeSession(
        depths,
        optimizer(depths.all_parameters(), lr=settings.lr),
        problem,
        ShardedData(columns, shards, batch_size=settings.batch, seed=seed, collate=collate),
        setting=settings.of_session(),
        channel=channel,
        evaluate=lambda: score(task, texts.predict(dev), data.dev.labels),
        loss=loss,
        folder=folder,
    )


def _some(train: Examples, n_rows: int, seed: int) -> Examples:
    if n_rows > len(train):
        raise LolaValueError(f"train_rows asks for {n_rows} rows, but there are {len(train)}")
    return train.take(np.sort(np.random.default_rng([seed, _SUBSET]).permutation(len(train))[:n_rows]))


def _channel(settings: TrainingSettings, n_devices: int) -> Channel | None:
    if settings.channel == "static":
        return None
    if settings.channel == "rayleigh":
        return RayleighFading(n_devices, seed=settings.seed)
    if not Path(settings.channel).is_file():
        raise LolaValueError(
            f"channel must be static, rayleigh, or a file of traces; got {shown(settings.channel)}, which is no file"
        )
    return TraceReplay(load_traces(settings.channel), n_devices, seed=settings.seed)


def _estimated(classifier: TextClassifier, settings: TrainingSettings) -> Profile:
    """Estimate the profile of the very model, whose head its folder may not know."""
    from lola.profiling import Workload, estimate

    with TemporaryDirectory() as folder:
        classifier.model.config.save_pretrained(folder)
        profile = estimate(
            Workload(
                folder,
                batch_size=settings.batch,
                sequence_length=settings.seq,
                lora_rank=settings.rank,
                seed=settings.seed,
            )
        )
    assert profile.provenance is not None
    # The same wherever the model lies, so that a run may go on from another working folder.
    name = Path(settings.model).resolve().name if Path(settings.model).is_dir() else settings.model
    return replace(profile, provenance=replace(profile.provenance, model=name))
