"""Models and batches to profile."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.models.loading import CONFIGS, import_transformers, load_config, reading, sees, sequence_length
from lola.models.seeding import seeded
from lola.profiling.workload import ProfilingError, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn


def build(workload: Workload, device: str) -> "tuple[nn.Module, str]":
    """Build the model on a device, in the workload's dtype and attention.

    Parameters
    ----------
    workload : Workload
    device : str
        ``"cpu"``, ``"cuda"`` or ``"meta"``; on the last no weights are loaded.

    Returns
    -------
    model : torch.nn.Module
    weights : str
        ``"random"``, or where they were loaded from.

    Raises
    ------
    ProfilingError
        If the model cannot be found or built.

    Notes
    -----
    Weights are read from safetensors, or else with ``weights_only=True``; no code from a model's folder is run.
    """
    import torch

    transformers = import_transformers()
    config = load_config(workload.model)
    names = [name for name in config.architectures or [] if isinstance(name, str)]
    kind = getattr(transformers, names[0], None) if names else None
    heads = transformers.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if kind is not None and not any(word in names[0] for word in ("For", "Head")) and type(config) in heads:
        kind = heads[type(config)]  # an encoder alone gives no loss
        config.architectures = [kind.__name__]
    if kind is None:
        raise ProfilingError(
            f"{workload.model}: its configuration names no architecture that transformers has (got {names}); a model "
            "with a head, such as RobertaForSequenceClassification, is needed to get a loss"
        )
    if getattr(config, "num_labels", 2) < 1:
        raise ProfilingError(f"{workload.model}: there are {config.num_labels} labels; give it one at least")
    config.use_cache = False
    trouble = f"{workload.model}: no model that transformers can build"
    dtype = getattr(torch, workload.dtype)
    source = None if device == "meta" else _weights(workload.model)
    if source is None:
        with reading(trouble), seeded(workload.seed, device), torch.device(device):
            model = kind._from_config(config, attn_implementation=workload.attention, dtype=dtype)
        return model, "random"
    with reading(trouble), seeded(workload.seed):  # a head that the file lacks is drawn
        model = kind.from_pretrained(
            workload.model,
            config=config,
            attn_implementation=workload.attention,
            dtype=dtype,
            use_safetensors=source == "safetensors",
            weights_only=True,
            trust_remote_code=False,
        )
    return model.to(device), f"{workload.model} ({source})"


def _weights(source: str) -> str | None:
    """Say how to read a model's weights; None where there are only configurations."""
    if source in CONFIGS:
        return None
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return "safetensors"  # from the hub nothing else is taken
    return "weights_only" if any(folder.glob("pytorch_model*.bin")) else None


def make_batch(workload: Workload, config: Any) -> "dict[str, torch.Tensor]":
    """Make a random batch on the CPU: ids or pixels, and labels.

    Returns
    -------
    dict of str to torch.Tensor
        ``input_ids`` and ``attention_mask``, (batch, sequence) int64, or ``pixel_values``, (batch, channels, side,
        side) in the workload's dtype; ``labels``, (batch,) int64, or (batch, sequence) for a language model; in the
        workload's dtype for a regression.
    """
    import torch

    generator = torch.Generator().manual_seed(workload.seed)
    length = sequence_length(workload.model, config, workload.sequence_length)
    batch = workload.batch_size
    classes = torch.randint(0, getattr(config, "num_labels", 2), (batch,), generator=generator)
    if getattr(config, "problem_type", None) == "regression":
        classes = classes.to(getattr(torch, workload.dtype))
    if sees(config):
        side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        pixels = torch.randn((batch, config.num_channels, side, side), generator=generator)
        return {"pixel_values": pixels.to(getattr(torch, workload.dtype)), "labels": classes}
    low = min(5, config.vocab_size - 1)  # past the ids of padding and the like
    ids = torch.randint(low, config.vocab_size, (batch, length), generator=generator)
    predicts_text = not any("Classification" in name for name in config.architectures)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids.clone() if predicts_text else classes,
    }
