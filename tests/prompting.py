"""A tiny classifier of made-up texts, and data for it, for the tests of schemes that train prompts."""

import numpy as np
import torch
import transformers

from lola.adapters import ShardedData
from lola.deft import PromptedClassifier

TOKENS, WIDTH, LENGTH = 3, 16, 6
SIZES = {"vocab_size": 40, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tiny_classifier(*, seed=0, train_head=True, dtype=torch.float32, **changes):
    """A frozen BERT whose texts differ; in eval mode unless it has dropout to draw."""
    config = transformers.BertConfig(
        **SIZES, intermediate_size=32, max_position_embeddings=24, initializer_range=0.3, **changes
    )
    torch.manual_seed(seed)
    model = transformers.BertForSequenceClassification(config)
    return PromptedClassifier(model.eval().to(dtype), train_head=train_head)


def texts(n_rows, *, seed=0):
    """Texts of random words behind a first token, of several lengths, without labels."""
    rng = np.random.default_rng([seed, 7])
    ids = torch.from_numpy(rng.integers(3, SIZES["vocab_size"], (n_rows, LENGTH)))
    ids[:, 0] = 1
    mask = torch.arange(LENGTH)[None] < torch.from_numpy(rng.integers(LENGTH - 2, LENGTH + 1, n_rows))[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


def sharded(columns, shards, *, batch_size=4, seed=0):
    return ShardedData(columns, shards, batch_size=batch_size, seed=seed)


def local_task(device, n_rows):
    """Texts of a device: one word says whose, and two words that are the same say the class, to each in its own way."""
    columns = texts(n_rows, seed=device)
    labels = (columns["input_ids"][:, 2] + device) % 2
    columns["input_ids"][:, 1] = 3 + device
    columns["input_ids"][:, 2:4] = (20 + 10 * labels + device)[:, None]
    return {**columns, "labels": labels}
