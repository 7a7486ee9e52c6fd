"""The model of the convergence runs: a pretrained sentence encoder under a linear head, a torch module of one's own."""

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer, BertModel


class PooledClassifier(nn.Module):
    """Mean-pooled texts; two texts u, v give the features (u, v, |u − v|, u∘v) of Sentence-BERT."""

    def __init__(self, folder, n_outputs, n_texts):
        super().__init__()
        self.folder = folder
        self.encoder = BertModel.from_pretrained(folder, use_safetensors=True, attn_implementation="eager")
        self.classifier = nn.Linear(self.encoder.config.hidden_size * (4 if n_texts == 2 else 1), n_outputs)

    def forward(self, input_ids, attention_mask):
        """Take (batch, texts, width) ids and mask, return (batch, outputs)."""
        mask = attention_mask.flatten(0, 1)
        hidden = self.encoder(input_ids=input_ids.flatten(0, 1), attention_mask=mask).last_hidden_state
        pooled = (hidden * mask[..., None]).sum(dim=1)  # of any length: it is normalised next
        pooled = nn.functional.normalize(pooled, dim=-1) * pooled.shape[1] ** 0.5
        first, *second = pooled.unflatten(0, input_ids.shape[:2]).unbind(dim=1)
        if second:
            (other,) = second
            first = torch.cat([first, other, (first - other).abs(), first * other], dim=-1)
        return self.classifier(first)

    def encode(self, examples, length):
        """Turn texts into (n, texts, width) ids and mask, and labels."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        texts = [examples.first] if examples.second is None else [examples.first, examples.second]
        chunks = [
            tokenizer(list(text), truncation=True, max_length=length, padding="max_length", return_tensors="pt")
            for text in texts
        ]
        names = ("input_ids", "attention_mask")
        columns = {name: torch.stack([tokens[name] for tokens in chunks], dim=1) for name in names}
        labels = torch.as_tensor(examples.labels)
        return {**columns, "labels": labels.float() if labels.is_floating_point() else labels}

    def predict(self, columns, batch_size=64):
        """Return classes, or the values of a regression, (n,)."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(columns["labels"]), batch_size):
                batch = trim({name: column[start : start + batch_size] for name, column in columns.items()})
                parts.append(self(batch["input_ids"], batch["attention_mask"]))
        outputs = torch.cat(parts)
        return np.asarray(outputs[:, 0] if outputs.shape[1] == 1 else outputs.argmax(dim=1))


def loss_of(model, batch):
    """Cross entropy, or squared error for a regression."""
    outputs, labels = model(batch["input_ids"], batch["attention_mask"]), batch["labels"]
    if outputs.shape[1] == 1:
        return nn.functional.mse_loss(outputs[:, 0], labels)
    return nn.functional.cross_entropy(outputs, labels)


def trim(batch):
    """Cut what is padding in every text of a batch."""
    width = int(batch["attention_mask"].sum(dim=-1).max())
    return {name: tensor[..., :width] if tensor.ndim == 3 else tensor for name, tensor in batch.items()}
