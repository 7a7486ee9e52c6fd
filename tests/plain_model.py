"""A model of one's own, of blocks that transformers knows nothing of."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.norm, self.mix, self.back = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden):
        return hidden + self.back(torch.tanh(self.mix(self.norm(hidden))))


class Plain(nn.Module):
    """A model of one's own: its blocks are called in the order that `order` gives."""

    def __init__(self, n_blocks=4, order=None):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.stack = nn.ModuleList(Block() for _ in range(n_blocks))
        self.classifier = nn.Linear(8, 2)
        self.order = order or range(n_blocks)
        self.scale = torch.tensor(0.5)  # neither a parameter nor a buffer

    def forward(self, x, labels):
        hidden = self.first(x) * self.scale
        for number in self.order:
            hidden = self.stack[number](hidden)
        logits = self.classifier(hidden)
        return type("Output", (), {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits})


def plain_batch(rows=6):
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.randn(rows, 8, generator=generator), "labels": torch.arange(rows) % 2}
