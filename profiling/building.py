"""Models and batches to profile."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lola.models.depths import Depths, attach_lora
from lola.models.loading import CONFIGS, hears, import_transformers, load_config, reading, sees, sequence_length
from lola.models.prompts import attach_prompts
from lola.models.seeding import seeded
from lola.profiling.machine import software
from lola.profiling.workload import ProfilingError, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn

# No counter of operations knows the product of grouped experts; these ask for values, and so are refused an estimate.
_COUNTED_EXPERTS = "eager"


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

    if not isinstance(workload.model, str):
        return _copied(workload.model, workload.attention, device), "given"
    transformers = import_transformers()
    config = load_config(workload.model)
    names = [name for name in config.architectures or [] if isinstance(name, str)]
    kind = getattr(transformers, names[0], None) if names else None
    if kind is None:
        raise ProfilingError(
            f"{workload.model}: its configuration names no architecture that transformers has (got {names}); a model "
            "with a head, such as RobertaForSequenceClassification, is needed to get a loss"
        )
    if not any(word in names[0] for word in ("For", "Head")):
        kind = _with_head(config, names[0], kind)
        config.architectures = [kind.__name__]
    if getattr(config, "pad_token_id", 0) is None and "SequenceClassification" in kind.__name__:
        config.pad_token_id = 0  # without one, a decoder's classifier takes a batch of one text alone
    if getattr(config, "num_labels", 2) < 1:
        raise ProfilingError(f"{workload.model}: there are {config.num_labels} labels; give it one at least")
    config.use_cache = False
    if device == "meta":
        config._experts_implementation = _COUNTED_EXPERTS
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


def _copied(module: "nn.Module", attention: str, device: str) -> "nn.Module":
    """Copy a module to a device; to ``"meta"`` without its values."""
    import torch

    owned = [*module.parameters(), *module.buffers()] if device == "meta" else []
    memo: dict[int, Any] = {}
    for tensor in owned:
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        memo[id(tensor)] = torch.nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    with reading(f"{type(module).__name__}: cannot be copied to be profiled"):
        model: Any = copy.deepcopy(module, memo).to(device)
    if attention != "own":
        model.set_attn_implementation(attention)
    if device == "meta" and hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation(_COUNTED_EXPERTS)
    config: Any = getattr(model, "config", None)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return cast("nn.Module", model)


def _with_head(config: Any, name: str, kind: Any) -> Any:
    """Choose a model with a head for the architecture of a backbone alone, which gives no loss."""
    from transformers.models.auto import modeling_auto as auto

    heads: tuple[Any, ...] = (
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    )
    if getattr(config, "is_encoder_decoder", False):
        part = (
            auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
            if "Encoder" in name
            else auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
        )
        heads = (part, auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING)
    return next((mapping[type(config)] for mapping in heads if type(config) in mapping), kind)


def adapted(workload: Workload, model: "nn.Module") -> Depths:
    """Put a workload's adapters or prompts into a model, in its mode.

    Raises
    ------
    ProfilingError
        If the model has no blocks or targets.
    """
    options: dict[str, Any] = {"blocks": workload.blocks, "train_head": workload.head == "trained"}
    depths = (
        attach_lora(model, rank=workload.lora_rank, targets=workload.lora_targets, **options)
        if workload.prompts is None
        else attach_prompts(model, tokens=workload.prompts, **options)
    )
    model.train(workload.mode == "train")
    return depths


def described(workload: Workload, depths: Depths) -> dict[str, Any]:
    """Return what a provenance says of a workload, however its costs are found."""
    config = getattr(depths.model, "config", None)
    return {
        "model": workload.name,
        "batch_size": workload.batch_size,
        "sequence_length": example_length(workload, config),
        "dtype": workload.dtype,
        "attention": workload.attention,
        "mode": workload.mode,
        "head": depths.head,
        "lora_rank": workload.lora_rank if workload.prompts is None else None,
        "lora_targets": depths.targets or None,
        "prompts": workload.prompts,
        "seed": workload.seed,
        "software": software(),
    }


def _weights(source: str) -> str | None:
    """Say how to read a model's weights; None where there are only configurations."""
    if source in CONFIGS:
        return None
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return "safetensors"  # from the hub nothing else is taken
    return "weights_only" if any(folder.glob("pytorch_model*.bin")) else None


def make_batch(workload: Workload, config: Any) -> "dict[str, torch.Tensor]":
    """Make a random batch on the CPU: ids, pixels or mel features, and labels. Of a module, it is its own.

    Returns
    -------
    dict of str to torch.Tensor
        ``input_ids`` and ``attention_mask``, (batch, sequence) int64; or ``pixel_values``, (batch, channels, side,
        side), or ``input_features``, (batch, bins, frames), in the workload's dtype; ``labels``, (batch,) int64, or
        (batch, sequence) for a language model or a classifier of tokens; in the workload's dtype for a regression.
    """
    import torch

    if workload.batch is not None:
        return {name: tensor.detach().to("cpu") for name, tensor in workload.batch.items()}

    generator = torch.Generator().manual_seed(workload.seed)
    length = example_length(workload, config)
    batch, kind = workload.batch_size, config.architectures[0]
    of_tokens = "TokenClassification" in kind
    shape = (batch, length) if of_tokens else (batch,)
    classes = torch.randint(0, getattr(config, "num_labels", 2), shape, generator=generator)
    if getattr(config, "problem_type", None) == "regression":
        classes = classes.to(getattr(torch, workload.dtype))
    if sees(config):
        side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        pixels = torch.randn((batch, config.num_channels, side, side), generator=generator)
        return {"pixel_values": pixels.to(getattr(torch, workload.dtype)), "labels": classes}
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is None:
        raise ProfilingError(
            f"{workload.model}: a model of texts, images or mel features was wanted, to make a batch for; got a "
            f"{kind}; load it, and profile Workload(model, batch=...) with a batch of yours"
        )
    low = min(5, vocabulary - 1)  # past the ids of padding and the like
    ids = torch.randint(low, vocabulary, (batch, length), generator=generator)
    labels = classes if "Classification" in kind else ids.clone()
    if hears(config):
        frames = torch.randn((batch, config.num_mel_bins, 2 * config.max_source_positions), generator=generator)
        return {"input_features": frames.to(getattr(torch, workload.dtype)), "labels": labels}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def example_length(workload: Workload, config: Any) -> int:
    """Return the tokens of one example of a workload."""
    if not isinstance(workload.model, str):
        assert workload.sequence_length is not None  # a module's batch has one
        return workload.sequence_length
    return sequence_length(workload.model, config, workload.sequence_length)
