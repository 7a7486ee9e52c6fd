"""Models and batches to profile: from a built-in configuration, a local folder, or a hub name."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.profiling.workload import ProfilingError, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn

# Configurations that need no network. Fields left out have the library's defaults, which are the model's own.
CONFIGS: dict[str, dict[str, Any]] = {
    "roberta-base": {
        "model_type": "roberta",
        "architectures": ["RobertaForSequenceClassification"],
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "bert-base-uncased": {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
    "minilm-l6": {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "intermediate_size": 1536,
    },
    "vit-b-16": {"model_type": "vit", "architectures": ["ViTForImageClassification"]},
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
    "tinyllama-1.1b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "llama-2-7b": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    },
}
_DEFAULT_SEQUENCE = 128


def load_config(source: str) -> Any:
    """Return the transformers configuration of a built-in name, a local folder, or a hub name.

    Raises
    ------
    ProfilingError
        If there is no such model, or it names no class that gives a loss.
    """
    transformers = import_transformers()
    if source in CONFIGS:
        settings = dict(CONFIGS[source])
        return transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ProfilingError(f"{source}: the folder has no config.json; name the folder of one saved model")
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ProfilingError(
            f"{source}: not a built-in configuration ({', '.join(CONFIGS)}), not a folder that transformers can read, "
            f"and not to be had from the hub: {reason}"
        ) from None
    return config


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
    names = config.architectures or []
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
    config.use_cache = False
    dtype = getattr(torch, workload.dtype)
    source = None if device == "meta" else _weights(workload.model)
    if source is None:
        torch.manual_seed(workload.seed)
        with torch.device(device):
            model = kind._from_config(config, attn_implementation=workload.attention, dtype=dtype)
        return model, "random"
    model = kind.from_pretrained(
        workload.model,
        config=config,
        attn_implementation=workload.attention,
        dtype=dtype,
        use_safetensors=source == "safetensors",
        weights_only=True,
        trust_remote_code=False,
    ).to(device)
    return model, f"{workload.model} ({source})"


def _weights(source: str) -> str | None:
    """Say how to read a model's weights; None where there are only configurations."""
    if source in CONFIGS:
        return None
    folder = Path(source)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return "safetensors"  # from the hub nothing else is taken
    return "weights_only" if any(folder.glob("pytorch_model*.bin")) else None


def sequence_length(workload: Workload, config: Any) -> int:
    """Return the tokens of one example.

    Raises
    ------
    ProfilingError
        If an image model is given another length than its patches, or a text is longer than the positions.
    """
    if _sees(config):
        side, patch = (
            value if isinstance(value, int) else value[0] for value in (config.image_size, config.patch_size)
        )
        tokens = int((side // patch) ** 2 + 1)
        if workload.sequence_length not in (None, tokens):
            raise ProfilingError(
                f"{workload.model} cuts an image into {tokens} tokens; leave the sequence length "
                f"{workload.sequence_length} out, or change image_size in its config.json"
            )
        return tokens
    length = workload.sequence_length or _DEFAULT_SEQUENCE
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # they start counting after the padding index
            positions -= config.pad_token_id + 1
        if length > positions:
            raise ProfilingError(f"{workload.model} has {positions} positions; shorten the sequence from {length}")
    return length


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
    length, batch = sequence_length(workload, config), workload.batch_size
    classes = torch.randint(0, getattr(config, "num_labels", 2), (batch,), generator=generator)
    if getattr(config, "problem_type", None) == "regression":
        classes = classes.to(getattr(torch, workload.dtype))
    if _sees(config):
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


def _sees(config: Any) -> bool:
    return hasattr(config, "image_size") and hasattr(config, "patch_size")


def import_transformers() -> Any:
    """Import transformers, or name the extra to install.

    Raises
    ------
    ImportError
        If it, torch or peft is missing.
    """
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise ImportError(
            f"profiling needs {error.name}: install lola-deft with its extra 'torch', or torch, transformers, peft and "
            "safetensors themselves"
        ) from None
    return transformers
