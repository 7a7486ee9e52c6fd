"""A training run: the session that follows from its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lola.adapters.devices import Devices
from lola.adapters.session import CooperativeSession
from lola.adapters.shards import ShardedData, trim_padding
from lola.channel import Channel, fading
from lola.files.formats import StrPath, block_limit
from lola.files.problems import builtin_scenario, load_fleet
from lola.files.profiles import load_profile
from lola.files.traces import TraceReplay, load_traces
from lola.fleet import Fleet
from lola.models.depths import Depths, Loss, attach_lora, loss_of_output
from lola.models.loading import import_transformers
from lola.models.seeding import seeded
from lola.problem import Problem
from lola.profile import Profile
from lola.ranks.rounds import trained_profile
from lola.scheduling import suited_method
from lola.solvers.checks import shown
from lola.solvers.errors import LolaValueError
from lola.tasks.dealing import deal, training_data
from lola.tasks.glue import Examples, GlueData, glue_task, score
from lola.tasks.settings import OPTIMIZERS, TrainingSettings
from lola.tasks.texts import TextClassifier, load_classifier

if TYPE_CHECKING:
    import torch

    Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Training:
    """A run that is ready to begin, or to go on.

    Attributes
    ----------
    session : CooperativeSession
    notes : tuple of str
        What was read, dealt out and assumed, a line each.
    classifier : TextClassifier
        The model that the session trains, with its tokenizer.
    """

    session: CooperativeSession
    notes: tuple[str, ...]
    classifier: TextClassifier


def adapted_classifier(settings: TrainingSettings) -> tuple[TextClassifier, Depths]:
    """Load the model and adapt it, as it is before the first round.

    Raises
    ------
    ModelError, ValueError
        If the model cannot be used.
    """
    with seeded(settings.seed):
        classifier = load_classifier(settings.model, glue_task(settings.task).n_labels, seed=None)
        depths = attach_lora(
            classifier.model, rank=settings.rank, alpha=settings.lora_alpha, train_head=not settings.freeze_head
        )
    return classifier, depths


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
    data = training_data(settings)
    fleet = load_fleet(settings.fleet) if settings.fleet else builtin_scenario().fleet
    channel = channel_of(settings, fleet)
    classifier, depths = adapted_classifier(settings)
    profile = as_trained(profile_of(settings, classifier), settings, depths)
    longest = block_limit("max_blocks", settings.max_blocks)
    problem = Problem(profile, fleet, settings.bandwidth_hz, settings.local_steps, max_blocks=longest)
    check_method(settings, problem)
    session = make_session(settings, depths, classifier, data, problem, channel=channel, folder=folder)
    dealt = "evenly" if settings.alpha is None else f"by Dirichlet({settings.alpha:g})"
    notes = [
        f"data: {data.source}",
        f"{len(data.train)} rows to train on, dealt {dealt} to {fleet.n_devices} devices; {len(data.dev)} to score",
        f"profile: {profile.provenance or 'of unknown provenance'}",
        f"channel: {channel or 'static, as the fleet has it'}",
    ]
    notes += _other_than_trained(profile, settings, depths)
    if session.version:
        notes.append(f"goes on from round {session.version} in {folder}")
    return Training(session, tuple(notes), classifier)


def profile_of(settings: TrainingSettings, classifier: TextClassifier) -> Profile:
    """Read the profile that settings name, or estimate one for the model."""
    return load_profile(settings.profile) if settings.profile else _estimated(classifier, settings)


def as_trained(profile: Profile, settings: TrainingSettings, depths: Depths) -> Profile:
    """Return the profile of the depths that are trained, with what they upload, where settings name a rank of each.

    Raises
    ------
    ValueError
        If the profile has another number of blocks.
    """
    if isinstance(settings.rank, int):
        return profile
    uploads = [depths.upload_bits(depth) for depth in range(1, len(depths) + 1)]
    return trained_profile(profile, settings.rank, np.array(depths.trained), np.array(uploads))


def check_method(settings: TrainingSettings, problem: Problem) -> None:
    """Refuse a method that does not suit what blocks upload, and say what mends it.

    Raises
    ------
    ValueError
        If it does not suit the problem.
    """
    unequal = settings.profile is None and not settings.freeze_head
    suited_method(settings.method, problem, "; or freeze the head (freeze_head, --freeze-head)" if unequal else "")


def channel_of(settings: TrainingSettings, fleet: Fleet) -> Channel | None:
    """Return the channel that settings name: None (static), fading, or a file of traces replayed.

    Parameters
    ----------
    settings : TrainingSettings
    fleet : Fleet
        Fading goes around each device's own mean SNR where the settings name its file, else around the paper's.

    Returns
    -------
    callable or None

    Raises
    ------
    FormatError, ValueError
        If there is no such channel, or the traces cannot be used.
    OSError
        If they cannot be read.
    """
    name, seed = settings.channel, settings.seed
    if name == "static":
        return None
    if name == "rayleigh":
        return fading(fleet.n_devices, seed, around=fleet.spectral_efficiency if settings.fleet else None)
    if not Path(name).is_file():
        raise LolaValueError(
            f"channel must be static, rayleigh, or a file of traces; got {shown(name)}, which is no file"
        )
    return TraceReplay(load_traces(name), fleet.n_devices, seed=seed)


def _other_than_trained(profile: Profile, settings: TrainingSettings, depths: Depths) -> list[str]:
    """Say what of a profile is not of what is trained: the clock is the profile's all the same."""
    uploads = [depths.upload_bits(depth) for depth in range(1, len(depths) + 1)]
    pairs = {}
    if (known := profile.provenance) is not None:
        pairs = {
            "model": (Path(known.model).name, Path(settings.model).resolve().name),
            "rank": (known.lora_rank, settings.rank),
            "batch": (known.batch_size, settings.batch),
            "sequence": (known.sequence_length, settings.seq),
        }
    differing = [
        f"{name} {profiled}, trained is {trained}"
        for name, (profiled, trained) in pairs.items()
        if profiled is not None and profiled != trained
    ]
    for depth, (profiled_bits, bits) in enumerate(zip(profile.upload_bits.tolist(), uploads, strict=False), start=1):
        if profiled_bits != bits:
            differing.append(f"uploads of {profiled_bits:,.0f} bits at depth {depth}, trained are {bits:,.0f}")
            break
    return [f"note: the clock is of another workload: {'; '.join(differing)}"] if differing else []


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
    devices: Devices | None = None,
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
    devices : Devices, optional
        Who have data and loss of their own; then nothing is dealt out.

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

    task, seed = settings.task, settings.seed
    shards = None
    if devices is None:
        columns = texts.encode(data.train, settings.seq)
        shards = ShardedData(
            columns,
            deal(settings, data.train, problem.n_devices),
            batch_size=settings.batch,
            seed=seed,
            collate=collate,
        )
    dev = texts.encode(data.dev, settings.seq)
    optimizer = getattr(torch.optim, OPTIMIZERS[settings.optimizer])
    depths.model.train()
    return CooperativeSession(
        depths,
        optimizer(depths.all_parameters(), lr=settings.lr),
        problem,
        shards,
        setting=settings.of_session(),
        channel=channel,
        evaluate=lambda: score(task, texts.predict(dev), data.dev.labels),
        loss=loss,
        devices=devices,
        folder=folder,
    )


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
                lora_rank=settings.largest_rank,
                head="frozen" if settings.freeze_head else "trained",
                seed=settings.seed,
            )
        )
    assert profile.provenance is not None
    # The same wherever the model lies, so that a run may go on from another working folder.
    name = Path(settings.model).resolve().name if Path(settings.model).is_dir() else settings.model
    return replace(profile, provenance=replace(profile.provenance, model=name))
