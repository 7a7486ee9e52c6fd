"""Tiny models of four architectures, saved as configurations that need no network."""

import json

import pytest

TINY = {
    "bert": {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
    },
    "roberta": {
        "model_type": "roberta",
        "architectures": ["RobertaForSequenceClassification"],
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
    },
    "vit": {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    },
    "gpt2": {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 50,
        "n_embd": 16,
        "n_layer": 3,
        "n_head": 2,
        "n_positions": 24,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "llama": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
    },
}

FALLING = [[3.0] * 5, [2.0] * 5, [4.0] * 5]  # seconds of three depths, which no profile may have


def save_config(folder, name, **changes):
    """Write a tiny model's configuration and return its folder as text."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY[name] | changes))
    return str(folder)


every_model = pytest.mark.parametrize("name", list(TINY))
