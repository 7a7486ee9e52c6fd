"""A model cut into the stages of a chain: the gradients and the answers of the whole one, stage by stage."""

import pickle
import time

import numpy as np
import pytest
import torch
from chained import every_cut
from cooperative import n_blocks_of, tiny_columns, tiny_depths
from plain_model import Plain, plain_batch
from tiny_models import TINY, save_config

from lola.adapters import ClientLostError, ModelChain
from lola.models import ModelError, attach_lora, attach_prompts
from lola.models.seeding import seeded
from lola.profiling import Workload, estimate_stages
from lola.profiling.building import build

# Rotary positions leave no room for prompts.
ADAPTED = [(name, kind) for name in TINY for kind in ("lora", "prompts") if (name, kind) != ("llama", "prompts")]
every_adapted_model = pytest.mark.parametrize("name, kind", ADAPTED)


def adapted(folder, name, kind, dtype):
    if kind == "lora":
        return tiny_depths(folder, name, zero_init=False, dtype=dtype)
    model, _ = build(Workload(save_config(folder / name, name), batch_size=2, seed=0), "cpu")
    return attach_prompts(model.to(dtype), tokens=3, seed=0)


def padded_batch(name, dtype):
    """Rows of a tiny model, some of them padded where there is a mask."""
    batch = tiny_columns(name, 3, seed=4, dtype=dtype)
    if "attention_mask" in batch:
        batch["attention_mask"][1, 5:] = 0
    return batch


def hooks_of(model):
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def gradients(depths):
    return {name: parameter.grad for name, parameter in depths.all_named_parameters().items()}


@every_adapted_model
def test_the_gradients_are_the_whole_models_whatever_the_cut(name, kind, tmp_path):
    depths = adapted(tmp_path, name, kind, torch.float64)
    depths.select_all()
    depths.model.train()  # with dropout
    batch = padded_batch(name, torch.float64)
    with seeded(3):
        loss = depths.model(**batch).loss
    loss.backward()
    wanted = gradients(depths)
    assert min(gradient.abs().max() for gradient in wanted.values()) > 1e-9
    cuts, own_hooks = list(every_cut(n_blocks_of(name) + 2)), hooks_of(depths.model)
    assert len(cuts) == 2 ** (n_blocks_of(name) + 1)
    for clients in cuts:
        depths.model.zero_grad(set_to_none=True)
        with seeded(3):
            passed = ModelChain(depths, clients).backward(batch)
        torch.testing.assert_close(gradients(depths), wanted, rtol=1e-10, atol=0.0)
        assert passed.loss == pytest.approx(loss.item(), rel=1e-12)
    assert hooks_of(depths.model) == own_hooks


@every_adapted_model
def test_an_inference_is_the_whole_models_to_the_last_bit(name, kind, tmp_path):
    depths = adapted(tmp_path, name, kind, torch.float32)
    depths.model.eval()
    batch = padded_batch(name, torch.float32)
    del batch["labels"]
    with torch.no_grad():
        wanted = depths.model(**batch).logits
    depths.model.train()
    depths.blocks[0].eval()
    modes = [module.training for module in depths.model.modules()]
    for clients in every_cut(n_blocks_of(name) + 2):
        output, passed = ModelChain(depths, clients).infer(batch)
        assert torch.equal(output.logits, wanted)
        assert passed.result_bytes == (wanted.numel() * 4 if clients[-1] else 0)
        assert len(passed.forward_s) == clients[-1] + 1
        assert not passed.backward_s.any()
    assert [module.training for module in depths.model.modules()] == modes


def test_only_hidden_states_go_on_and_only_gradients_that_are_needed_come_back(tmp_path):
    depths = tiny_depths(tmp_path, "gpt2")
    batch = padded_batch("gpt2", torch.float32)
    hidden, beside = 3 * 8 * 16 * 4, 2 * 3 * 8 * 8
    depths.select_all()
    chain = ModelChain(depths, [4, 0, 1, 2, 3])
    passed = chain.backward(batch)
    assert passed.hop_bytes == (hidden,) * 4
    assert passed.return_bytes == (0, hidden, hidden, hidden)  # nothing is trained in the embedding
    assert passed.beside_bytes == 4 * beside
    assert passed.result_bytes == 0
    depths.select(2)
    passed = chain.backward(batch)
    assert passed.hop_bytes == (hidden,) * 4
    assert passed.return_bytes == (0, 0, hidden, hidden)
    assert (passed.backward_s > 0).tolist() == [False, False, True, True, True]
    alone = ModelChain(depths, [4] * 5).backward(batch)
    assert (alone.hop_bytes, alone.return_bytes, alone.beside_bytes) == ((), (), 0)


def test_what_goes_from_client_to_client_is_what_the_profile_of_the_stages_says(tmp_path):
    depths = tiny_depths(tmp_path, "roberta")
    depths.select_all()
    stages = estimate_stages(Workload(str(tmp_path / "roberta"), batch_size=3, sequence_length=8, lora_rank=2))
    batch = padded_batch("roberta", torch.float32)
    chain = ModelChain(depths, range(6))
    passed = chain.backward(batch)
    assert [8 * sent for sent in passed.hop_bytes] == stages.hop_bits.tolist()
    assert [8 * sent for sent in passed.return_bytes] == stages.return_bits.tolist()
    assert 8 * chain.infer(batch)[1].result_bytes == stages.result_bits


def test_each_stage_computes_on_a_copy_and_keeps_what_its_own_backward_needs(tmp_path):
    depths = tiny_depths(tmp_path, "bert")
    depths.select_all()
    batch = padded_batch("bert", torch.float32)
    seen = []
    note = depths.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    start = time.perf_counter()
    passed = ModelChain(depths, [0, 0, 1, 1, 1]).backward(batch, count_kept=True)
    elapsed_s = time.perf_counter() - start
    ModelChain(depths, [0] * 5).backward(batch)
    note.remove()
    cut, whole = seen
    assert cut.is_leaf
    assert cut.grad_fn is None
    assert cut.requires_grad
    assert not whole.is_leaf
    assert 0 < passed.seconds < elapsed_s
    assert (np.concatenate([passed.forward_s, passed.backward_s]) > 0).all()
    depths.select(1)
    last = ModelChain(depths, [0, 0, 1, 1, 1]).backward(batch, count_kept=True)
    assert last.kept_bytes[0] == 0 < last.kept_bytes[1] < passed.kept_bytes[1]
    assert np.isnan(ModelChain(depths, [0, 0, 1, 1, 1]).backward(batch).kept_bytes).all()


def test_all_bytes_kept_are_those_of_the_stages(tmp_path):
    depths = tiny_depths(tmp_path, "gpt2")
    depths.select_all()
    batch = padded_batch("gpt2", torch.float32)
    (whole,) = ModelChain(depths, [0] * 5).backward(batch, count_kept=True).kept_bytes
    stages = ModelChain(depths, [0, 1, 2, 3, 4]).backward(batch, count_kept=True).kept_bytes
    assert stages.shape == (5,)
    hops = 4 * 3 * 8 * 16 * 4  # what was sent is kept by its sender and its receiver
    assert whole <= stages.sum() <= whole + hops


def test_blocks_joined_into_one_are_cut_at_their_ends():
    model = Plain(4)
    modules = list(model.stack)
    depths = attach_lora(
        model, blocks=[torch.nn.ModuleList(modules[:2]), torch.nn.ModuleList(modules[2:])], targets=["mix"]
    )
    depths.select_all()
    batch = plain_batch()
    model(**batch).loss.backward()
    wanted = gradients(depths)
    for clients in every_cut(4):
        model.zero_grad(set_to_none=True)
        ModelChain(depths, clients).backward(batch)
        torch.testing.assert_close(gradients(depths), wanted)


def test_a_client_that_is_lost_in_the_middle_leaves_its_stage_and_those_before_without_gradients(tmp_path):
    depths = tiny_depths(tmp_path, zero_init=False)
    depths.select_all()
    chain = ModelChain(depths, [5, 5, 6, 6, 7])
    with pytest.raises(
        ClientLostError, match="client 6 dropped out in the middle of a batch; plan anew without it"
    ) as lost:
        chain.backward(padded_batch("bert", torch.float32), lost={6, 5})
    assert lost.value.client == 6
    assert lost.value.passed.hop_bytes == (3 * 8 * 16 * 4,) * 2
    assert lost.value.passed.return_bytes == (0, 3 * 8 * 16 * 4)
    again = pickle.loads(pickle.dumps(lost.value))
    assert (again.client, str(again)) == (6, str(lost.value))
    assert {name for name, gradient in gradients(depths).items() if gradient is not None} == {
        "classifier.weight",
        "classifier.bias",
    }
    depths.model.zero_grad(set_to_none=True)
    depths.select(1)
    with pytest.raises(ClientLostError, match="client 5"):  # whom no gradient would have reached
        chain.backward(padded_batch("bert", torch.float32), lost=[5])
    chain.backward(padded_batch("bert", torch.float32), lost=[8])


def test_a_loss_over_hidden_states_of_several_clients_is_refused(tmp_path):
    def loss(model, batch):
        output = model(**batch, output_hidden_states=True)
        return output.loss + sum(hidden.square().mean() for hidden in output.hidden_states)

    depths = tiny_depths(tmp_path, zero_init=False)
    depths.select_all()
    batch = padded_batch("bert", torch.float32)
    with pytest.raises(ModelError, match="the loss depends on more than the last hidden state: .* leave hidden_states"):
        ModelChain(depths, [0, 0, 1, 2, 2]).backward(batch, loss=loss)
    ModelChain(depths, [0] * 5).backward(batch, loss=loss)


@pytest.mark.parametrize(
    "clients, why",
    [
        ([0, 0, 1], r"a client, 0 or more, for each of 5 modules \(embedding, 3 blocks, head\); got \[0, 0, 1\]"),
        ([0.0, 0.0, 1.0, 1.0, 1.0], "client_of_module must name a client"),
        ([0, 0, 1, 1, -1], "client_of_module must name a client, 0 or more"),
        ([[0], [0], [1], [1], [1]], "client_of_module must name a client"),
        ([0, 1, 0, 1, 1], r"a client's modules must be neighbours, got \[0, 1, 0, 1, 1\]; give each client one run"),
    ],
)
def test_clients_that_are_no_chain_are_refused(clients, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        ModelChain(tiny_depths(tmp_path), clients)


def test_what_is_no_model_of_one_stack_is_refused(tmp_path):
    depths = tiny_depths(tmp_path)
    with pytest.raises(TypeError, match="depths must be a Depths, got BertForSequenceClassification; make it of"):
        ModelChain(depths.model, [0] * 5)
    depths.model.config.is_encoder_decoder = True
    with pytest.raises(ModelError, match="has an encoder and a decoder: a chain hands on one hidden state"):
        ModelChain(depths, [0] * 5)


def test_a_model_that_cannot_be_cut_there_says_why():
    class Shortcut(Plain):
        """A model whose blocks get what the first of them gave, too."""

        def forward(self, x, labels):
            hidden = first = self.stack[0](self.first(x))
            for block in self.stack[1:]:
                hidden = block(hidden, extra=first)
            return {"loss": hidden.sum()}

    model = Shortcut(3)
    for block in model.stack[1:]:
        block.forward = lambda hidden, extra, block=block: type(block).forward(block, hidden) + extra
    depths = attach_lora(model, targets=["mix"])
    depths.select_all()
    with pytest.raises(ModelError, match="Block of block 3 is given another tensor that requires a gradient"):
        ModelChain(depths, [0, 0, 0, 1, 1]).backward(plain_batch())
    with pytest.raises(ModelError, match="an inference must give logits, named so or first of a tuple, got dict"):
        ModelChain(depths, [0, 0, 0, 0, 1]).infer(plain_batch())
    twice = attach_lora(Plain(3, order=(0, 1, 1, 2)), targets=["mix"])
    twice.select_all()
    with pytest.raises(ModelError, match="block 3 was wanted, and Block of block 2 runs; take a model whose blocks do"):
        ModelChain(twice, [0, 0, 1, 1, 1]).backward(plain_batch())
    skipped = attach_lora(Plain(3), targets=["mix"])
    skipped.select_all()
    with pytest.raises(ModelError, match="the loss does not depend on what client 1 was sent; are all blocks run"):
        ModelChain(skipped, [0, 0, 1, 1, 1]).backward(
            plain_batch(), loss=lambda model, batch: (model(**batch), model.classifier.weight.sum())[1]
        )
    skipped.model.requires_grad_(False)
    with pytest.raises(ValueError, match="the loss depends on nothing that is trained; select a depth, or all"):
        ModelChain(skipped, [0, 0, 1, 1, 1]).backward(plain_batch())


def test_it_shows_its_stages(tmp_path):
    chain = ModelChain(tiny_depths(tmp_path), np.array([3, 3, 0, 0, 7]))
    assert repr(chain) == "<ModelChain of BertForSequenceClassification: modules 0…1 on 3, 2…3 on 0, 4…4 on 7>"
    assert (chain.clients, chain.modules) == ((3, 0, 7), (range(2), range(2, 4), range(4, 5)))
