"""A prompt among a model's tokens: as run by hand, the first token still the first, gradients where they belong."""

import pytest
import torch
from tiny_models import save_config

from lola.deft import PromptedClassifier, draw_prompt, with_prompt
from lola.models import ModelError, attach_lora
from lola.profiling import Workload
from lola.profiling.building import build, make_batch

TOKENS, LENGTH = 3, 6
# The tiny configuration that each model's is made from, and what differs.
CLASSIFIERS = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {}),
    "xlm-roberta": ("roberta", {"architectures": ["XLMRobertaForSequenceClassification"]}),
    "electra": ("bert", {"architectures": ["ElectraForSequenceClassification"], "embedding_size": 8}),
    "distilbert": (
        "bert",
        {"architectures": ["DistilBertForSequenceClassification"], "dim": 16, "hidden_dim": 32}
        | {"n_layers": 2, "n_heads": 2},
    ),
    "mpnet": ("bert", {"architectures": ["MPNetForSequenceClassification"]}),
}
each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


def tiny(tmp_path, name):
    """A tiny model in eval mode and double precision, and a batch of three texts, of which one is shorter."""
    base, differing = CLASSIFIERS[name]
    folder = save_config(tmp_path / name, base, **({"model_type": name, "initializer_range": 0.3} | differing))
    workload = Workload(folder, batch_size=3, sequence_length=LENGTH)
    torch.manual_seed(3)
    model, _ = build(workload, "cpu")
    batch = make_batch(workload, model.config)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][1, 4:] = 0
    return model.eval().double(), batch


def with_words(model, batch, words):
    """Run a model on texts in which words stand where a prompt would: after the first token."""

    def spread(column, middle):
        return torch.cat([column[:, :1], middle.expand(len(column), -1), column[:, 1:]], 1)

    longer = {"input_ids": spread(batch["input_ids"], words)}
    longer["attention_mask"] = spread(batch["attention_mask"], torch.ones_like(words))
    return model(**longer, labels=batch["labels"])


@each_classifier
def test_a_prompt_of_words_is_the_text_with_these_words(tmp_path, name):
    """The oracle is the model itself, on tokens: embeddings, positions, mask and labels are then its own."""
    model, batch = tiny(tmp_path, name)
    words = torch.tensor([7, 30, 11])
    prompt = model.get_input_embeddings().weight[words]
    got, wanted = with_prompt(model, prompt, batch), with_words(model, batch, words)
    torch.testing.assert_close(got.loss, wanted.loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-6, atol=1e-7)
    assert (got.loss - model(**batch).loss).abs() > 1e-6


@each_classifier
def test_the_first_token_is_still_what_the_classifier_reads(tmp_path, name):
    """The prompt may be anything: what stands first among the embeddings is [CLS], at its position."""
    model, batch = tiny(tmp_path, name)
    entered = []
    hook = model.base_model.embeddings.register_forward_hook(lambda *args: entered.append(args[-1]))
    prompt = draw_prompt(model, tokens=TOKENS, seed=1)
    with_prompt(model, prompt, batch)
    with_prompt(model, prompt.flip(1), batch)
    model(**batch)
    hook.remove()
    first, other, plain = entered
    assert torch.equal(first[:, 0], plain[:, 0])
    assert torch.equal(other[:, 0], plain[:, 0])
    changed = (first != other).any(dim=-1)
    assert changed.tolist() == [[1 <= place <= TOKENS for place in range(LENGTH + TOKENS)]] * len(first)
    assert first.shape[1] == plain.shape[1] + TOKENS


@each_classifier
def test_the_gradient_reaches_the_prompt_and_is_that_of_differences(tmp_path, name):
    model, batch = tiny(tmp_path, name)
    prompt = draw_prompt(model, tokens=TOKENS, seed=1).requires_grad_()

    def size(prompt):  # the loss of some models is taken in single precision
        return with_prompt(model, prompt, batch).logits.square().mean()

    (gradient,) = torch.autograd.grad(size(prompt), prompt)
    direction = torch.randn(prompt.shape, dtype=torch.double, generator=torch.Generator().manual_seed(2))
    step = 1e-5 * direction
    with torch.no_grad():
        ahead, behind = size(prompt + step), size(prompt - step)
    assert float((gradient * direction).sum()) == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-3, abs=1e-7)
    assert gradient.abs().max() > 0


@each_classifier
def test_only_prompt_and_head_are_trained(tmp_path, name):
    model, batch = tiny(tmp_path, name)
    classifier = PromptedClassifier(model)
    assert 2 <= len(classifier.head) <= 4
    prompt = draw_prompt(model, tokens=TOKENS, seed=1).requires_grad_()
    with_prompt(model, prompt, batch).loss.backward()
    trained = {id(parameter) for parameter in classifier.head}
    for parameter in model.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)
    assert prompt.grad.abs().max() > 0
    assert PromptedClassifier(model, train_head=False).head == []
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert "BertForSequenceClassification, head trained" in repr(classifier) or name != "bert"


def test_predictions_are_in_the_order_of_the_rows_and_leave_modes_alone(tmp_path):
    model, batch = tiny(tmp_path, "bert")
    classifier, prompt = PromptedClassifier(model), draw_prompt(model, tokens=TOKENS, seed=1)
    wanted = with_prompt(model, prompt, batch).logits.softmax(dim=1)
    model.train()
    model.classifier.eval()
    modes = [module.training for module in model.modules()]
    got = classifier.probabilities(prompt, batch, batch_size=2)
    assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-9)
    assert classifier.predict(prompt, batch).tolist() == wanted.argmax(dim=1).tolist()
    assert classifier.predict(prompt, batch).dtype == "int64"


def test_a_drawn_prompt_is_words_and_follows_from_its_seed(tmp_path):
    model, _ = tiny(tmp_path, "bert")
    state = torch.random.get_rng_state()
    first, again, other = (draw_prompt(model, tokens=TOKENS, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    words = model.get_input_embeddings().weight
    assert all((words == token).all(dim=1).any() for token in first)
    assert not first.requires_grad


@pytest.mark.parametrize(("name", "most"), [("bert", 24), ("roberta", 22), ("mpnet", 22), ("distilbert", 24)])
def test_text_and_prompt_must_fit_the_positions(tmp_path, name, most):
    model, batch = tiny(tmp_path, name)
    assert with_prompt(model, draw_prompt(model, tokens=most - LENGTH, seed=1), batch).loss.isfinite()
    with pytest.raises(ModelError, match=f"must fit the {most} positions of .*, got 6 and {most - 5} tokens"):
        with_prompt(model, draw_prompt(model, tokens=most - LENGTH + 1, seed=1), batch)


def test_other_models_are_refused(tmp_path):
    workload = Workload(save_config(tmp_path / "llama", "llama"), batch_size=2, sequence_length=LENGTH)
    llama, _ = build(workload, "cpu")
    with pytest.raises(ModelError, match="one of BertForSequenceClassification, .*; got LlamaForCausalLM; take one of"):
        draw_prompt(llama, tokens=2, seed=0)
    with pytest.raises(ModelError, match="a text classifier that was tried with a prompt was wanted, one of BertFor"):
        PromptedClassifier(llama)
    bert, _ = tiny(tmp_path, "bert")
    with pytest.raises(TypeError, match="a text classifier of transformers, got Depths; give depths.model"):
        PromptedClassifier(attach_lora(tiny(tmp_path, "bert")[0]))
    bert.config.num_labels = 1
    with pytest.raises(ModelError, match="a classifier of two classes at least was wanted, got 1"):
        PromptedClassifier(bert)


def test_prompts_that_do_not_fit_are_refused(tmp_path):
    model, batch = tiny(tmp_path, "electra")
    fine = draw_prompt(model, tokens=2, seed=0)
    with pytest.raises(TypeError, match=r"a tensor of the model's dtype, torch.float64, got torch.float32"):
        with_prompt(model, fine.float(), batch)
    with pytest.raises(TypeError, match="got list; draw_prompt makes one"):
        with_prompt(model, fine.tolist(), batch)
    for wrong in (fine[:, :5], fine[:0], fine[0], fine[None]):
        with pytest.raises(ValueError, match=r"of shape \(tokens, 8\), as wide as the model's word embeddings, got"):
            with_prompt(model, wrong, batch)
    with pytest.raises(ValueError, match="tokens must be"):
        draw_prompt(model, tokens=0, seed=0)
    with pytest.raises(TypeError, match="seed must be an integer"):
        draw_prompt(model, tokens=1, seed="1")


def test_batches_that_do_not_fit_are_refused(tmp_path):
    model, batch = tiny(tmp_path, "bert")
    prompt = draw_prompt(model, tokens=2, seed=0)
    ids = batch["input_ids"]
    for wrong in ({}, {"input_ids": ids[0]}, {"input_ids": ids[:0]}, {"inputs_embeds": ids}):
        with pytest.raises(ValueError, match=r"a batch must hold input_ids of shape \(rows, length\)"):
            with_prompt(model, prompt, wrong)
    with pytest.raises(ValueError, match="may hold .*, got position_ids too; leave that out"):
        with_prompt(model, prompt, {**batch, "position_ids": ids})
    with pytest.raises(ValueError, match=r"attention_mask must be of the shape of input_ids, \(3, 6\), got \(3, 5\)"):
        with_prompt(model, prompt, {**batch, "attention_mask": ids[:, :5]})
