"""Training one prompt: Adam by hand, and what cannot be trained on."""

import itertools

import numpy as np
import pytest
import torch
from prompting import TOKENS, local_task, sharded, tiny_classifier

from lola.deft import draw_prompt, train_prompt


def task():
    """One device's texts, in three batches."""
    return sharded(local_task(0, 24), [range(24)], batch_size=8)


def test_training_a_prompt_is_adam_on_the_prompt_and_the_head():
    data = task()
    classifier, other = tiny_classifier(seed=1), tiny_classifier(seed=1)
    first = draw_prompt(classifier.model, tokens=TOKENS, seed=0)
    began = first.clone()
    trained, loss = train_prompt(classifier, first, data.batches(0, 0), steps=3, learning_rate=0.01)
    by_hand = began.clone().requires_grad_()
    optimizer = torch.optim.Adam([by_hand, *other.head], lr=0.01)
    losses = []
    for batch in itertools.islice(data.batches(0, 0), 3):
        optimizer.zero_grad()
        words = other.model.get_input_embeddings()(batch["input_ids"])
        together = torch.cat([words[:, :1], by_hand.expand(len(words), -1, -1), words[:, 1:]], 1)
        mask = torch.cat([torch.ones(len(words), TOKENS, dtype=torch.int64), batch["attention_mask"]], 1)
        one = other.model(inputs_embeds=together, attention_mask=mask, labels=batch["labels"]).loss
        one.backward()
        optimizer.step()
        losses.append(float(one.detach()))
    torch.testing.assert_close(trained, by_hand.detach())
    for mine, theirs in zip(classifier.head, other.head, strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.grad is None
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert torch.equal(first, began)
    assert not trained.requires_grad


def test_what_cannot_be_trained_on_is_refused():
    data, classifier = task(), tiny_classifier()
    prompt = draw_prompt(classifier.model, tokens=TOKENS, seed=0)
    batch = next(data.batches(0, 0))
    with pytest.raises(ValueError, match="2 batches were wanted, one a step, got 1; take fewer steps, or more data"):
        train_prompt(classifier, prompt, [batch], steps=2)
    with pytest.raises(ValueError, match="a batch to train on must have labels, got attention_mask, input_ids; add"):
        train_prompt(classifier, prompt, [{name: batch[name] for name in ("input_ids", "attention_mask")}], steps=1)
    with pytest.raises(ValueError, match="steps must be"):
        train_prompt(classifier, prompt, [batch], steps=0)
