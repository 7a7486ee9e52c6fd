"""Tiny models of five architectures, saved as configurations that need no network, or with weights and tokenizer."""

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
        "type_vocab_size": 1,
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

# Seconds of three depths, which no profile may have, and of all three at once.
FALLING = [[3.0] * 5, [2.0] * 5, [4.0] * 5, [4.2] * 5]


def save_config(folder, name, **changes):
    """Write a tiny model's configuration and return its folder as text."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY[name] | changes))
    return str(folder)


def save_checkpoint(folder, name="bert"):
    """Save an encoder without a head, with a tokenizer that knows the words w0…w44, and return its folder as text."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    save_config(folder, name, initializer_range=0.3)  # large, so that texts differ
    torch.manual_seed(7)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    start, pad, end, unknown = (
        ("[CLS]", "[PAD]", "[SEP]", "[UNK]") if name == "bert" else ("<s>", "<pad>", "</s>", "<unk>")
    )
    special = [pad, start, end, unknown] if name == "bert" else [start, pad, end, unknown]  # where the model pads
    words = [*special, "[MASK]", *(f"w{i}" for i in range(45))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(word, words.index(word)) for word in (start, end)],
    )
    names = {"cls_token": start, "sep_token": end, "unk_token": unknown, "pad_token": pad, "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return str(folder)


every_model = pytest.mark.parametrize("name", list(TINY))
