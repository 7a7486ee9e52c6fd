"""Configurations of models: built in, from a local folder, or by hub name."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lola.models.errors import ModelError

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
_HUB_TIMEOUT_S = 5.0


def load_config(source: str) -> Any:
    """Return the transformers configuration of a built-in name, a local folder, or a hub name.

    Raises
    ------
    ModelError
        If there is no such model, or it names no class that gives a loss.
    """
    transformers = import_transformers()
    if source in CONFIGS:
        settings = dict(CONFIGS[source])
        return transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{source}: the folder has no config.json; name the folder of one saved model")
    meant = difflib.get_close_matches(source, CONFIGS, n=1)
    hint = f" (did you mean {meant[0]}?)" if meant else ""
    with reading(
        f"{source}: not a built-in configuration{hint} ({', '.join(CONFIGS)}), not a folder that transformers can "
        "read, and not to be had from the hub"
    ):
        if not folder.is_dir():
            _ask_hub(source)
        return transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)


def _ask_hub(name: str) -> None:
    """Ask once for a configuration that is not at hand; transformers would ask a hub that does not answer for long."""
    import huggingface_hub

    if not isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
        address = huggingface_hub.hf_hub_url(name, "config.json")
        huggingface_hub.get_hf_file_metadata(address, timeout=_HUB_TIMEOUT_S)


@contextmanager
def reading(trouble: str) -> Iterator[None]:
    """Let transformers make something of a model's files, and nothing else happen: of strange ones it raises anything.

    Raises
    ------
    ModelError
        Beginning with the trouble, ending with what transformers has to say.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # KeyError, AssertionError and ZeroDivisionError among them
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        raise ModelError(f"{trouble}: {kind}{reason}") from None


def sequence_length(name: str, config: Any, length: int | None = None) -> int:
    """Return the tokens of one example: the length asked for, or the usual one.

    Raises
    ------
    ModelError
        If a model of images or sound is given another length than its own, or a text is longer than the positions.
    """
    if sees(config):
        side, patch = (
            value if isinstance(value, int) else value[0] for value in (config.image_size, config.patch_size)
        )
        tokens = int((side // patch) ** 2 + 1)
        if length not in (None, tokens):
            raise ModelError(
                f"{name} cuts an image into {tokens} tokens; leave the sequence length {length} out, or change "
                "image_size in its config.json"
            )
        return tokens
    if hears(config):
        tokens = int(config.max_source_positions)
        if length not in (None, tokens):
            raise ModelError(
                f"{name} hears {tokens} tokens of sound; leave the sequence length {length} out, or change "
                "max_source_positions in its config.json"
            )
        return tokens
    wanted = length or _DEFAULT_SEQUENCE
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # they start counting after the padding index
            positions -= config.pad_token_id + 1
        if wanted > positions:
            raise ModelError(f"{name} has {positions} positions; shorten the sequence from {wanted}")
    return wanted


def sees(config: Any) -> bool:
    """Say whether a model takes images."""
    return hasattr(config, "image_size") and hasattr(config, "patch_size")


def hears(config: Any) -> bool:
    """Say whether a model takes sound, as mel features."""
    return hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions")


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
            f"a model needs {error.name}: install lola-deft with its extra 'torch', or torch, transformers, peft and "
            "safetensors themselves"
        ) from None
    return transformers
