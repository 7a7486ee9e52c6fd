"""What travels: written to bytes and read again, the same; a remote device computes what the server would have."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_depths, tiny_problem, weights_of
from travelling import KINDS, fits, messages_of, same

import lola
from lola.adapters import BlockGradient, BlockTask, ModelUpdate, RoundPlan, apply_round, block_gradient


@pytest.fixture(scope="module")
def depths(tmp_path_factory):
    return tiny_depths(tmp_path_factory.mktemp("model"), zero_init=False)


@pytest.fixture(scope="module")
def messages(depths):
    return messages_of(depths)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_what_was_written(messages, depths, kind):
    message = messages[kind]
    data = message.to_bytes()
    again = type(message).from_bytes(data, depths)
    assert same(again, message)
    assert fits(again, depths)
    assert again.to_bytes() == data
    assert type(message).from_bytes(data, depths, limit=len(data)).version == 5
    with pytest.raises(lola.FormatError, match=f"at most {len(data) - 1} bytes was wanted, got {len(data)}; raise its"):
        type(message).from_bytes(data, depths, limit=len(data) - 1)


def test_what_cannot_be_sent_is_said(messages):
    task, answer = messages["BlockTask"], messages["BlockGradient"]
    name = next(iter(answer.gradients))
    for bad in (math.nan, np.int64(3), {1, 2}):
        with pytest.raises(ValueError, match="a BlockTask must hold plain finite numbers to be sent: .*; convert"):
            replace(task, bandwidth_hz=bad).to_bytes()
    for bad, why in (
        (torch.zeros(2, dtype=torch.int64), f"{re.escape(name)} is torch.int64, which does not travel; make it one of"),
        (torch.eye(2).to_sparse(), "must be dense and have values to be sent"),
        (torch.zeros(2, device="meta"), "must be dense and have values to be sent"),
    ):
        with pytest.raises(ValueError, match=why):
            replace(answer, gradients={name: bad}).to_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_type_of_parameter_travels_whatever_its_memory_looks_like(tmp_path, dtype):
    depths = tiny_depths(tmp_path, zero_init=False, dtype=dtype)
    update = ModelUpdate.from_depths(depths, 0)
    assert same(ModelUpdate.from_bytes(update.to_bytes(), depths), update)
    buffers = {dtype: torch.randn(1000).to(dtype) for dtype in (torch.float32, dtype)}  # LoRA may stay in float32
    views = {
        name: buffers[tensor.dtype][: tensor.numel()].view(tensor.shape[::-1]).t()
        for name, tensor in update.parameters.items()
    }
    shared = ModelUpdate(0, views, depths.alpha)
    assert same(ModelUpdate.from_bytes(shared.to_bytes(), depths), shared)
    other = tiny_depths(tmp_path, dtype=torch.float64 if dtype != torch.float64 else torch.float32)
    with pytest.raises(lola.FormatError, match="is it of another model|of tensors was wanted"):
        ModelUpdate.from_bytes(update.to_bytes(), other)


def test_a_remote_device_computes_what_the_server_would_have(tmp_path):
    """The server's model has learnt something; the device's has the same frozen weights and other adapters."""
    server, remote = (tiny_depths(tmp_path, zero_init=zero) for zero in (False, True))
    for depths in (server, remote):
        depths.model.train()  # with dropout
    optimizer = torch.optim.Adam(server.all_parameters(), lr=1e-2)
    batches = [tiny_columns("bert", 4, seed=seed) for seed in (0, 1)]
    for version in range(3):
        plan = RoundPlan.from_schedule(lola.schedule(tiny_problem(3)), version, local_steps=2)
        update = ModelUpdate.from_bytes(ModelUpdate.from_depths(server, version).to_bytes(), remote)
        update.apply_to(remote)
        answers = []
        for sent in plan.tasks:
            task = BlockTask.from_bytes(sent.to_bytes(), remote)
            torch.manual_seed(version)
            answer = block_gradient(remote, task, batches)
            answers.append(BlockGradient.from_bytes(answer.to_bytes(), server))
            torch.manual_seed(version)
            assert same(answers[-1], block_gradient(server, sent, batches, 2))
        assert apply_round(optimizer, server, plan, answers).applied == (1, 2, 3)
    assert not any(torch.equal(a, b) for a, b in zip(weights_of(server), weights_of(remote), strict=True))


def test_an_update_that_does_not_fit_changes_nothing(tmp_path, messages, depths):
    update, before = messages["ModelUpdate"], weights_of(depths)
    name = list(update.parameters)[-1]
    without = {key: tensor for key, tensor in update.parameters.items() if key != name}
    for parameters, why in (
        (without, f"got {len(without)}; {re.escape(name)} is missing. Adapt the same model with the same rank"),
        (update.parameters | {"more": torch.zeros(1)}, "more is not in the model"),
        ({**without, name: torch.full_like(update.parameters[name], math.nan)}, "has a value that is not finite"),
        ({**without, name: torch.zeros(3)}, r"has shape \(3,\), wanted"),
        ({**without, name: update.parameters[name].double()}, "is torch.float64, wanted torch.float32"),
        ({**without, name: [0.0]}, "is a list, wanted a plain torch.Tensor"),
    ):
        others = {key: value + 1 if key in without else value for key, value in parameters.items()}
        with pytest.raises(ValueError, match=why):
            ModelUpdate(6, others, depths.alpha).apply_to(depths)
        assert all(torch.equal(a, b) for a, b in zip(before, weights_of(depths), strict=True))


def test_an_update_of_another_alpha_is_not_taken(messages, depths):
    other = replace(messages["ModelUpdate"], alpha=2 * depths.alpha)
    assert ModelUpdate.from_bytes(other.to_bytes(), depths).alpha == 2 * depths.alpha
    with pytest.raises(ValueError, match="must be of LoRA with the model's alpha, 4, got 8; adapt the model with the"):
        other.apply_to(depths)


def test_a_loss_that_is_not_finite_arrives_as_one_and_is_refused_there(messages, depths):
    for loss in (math.nan, math.inf, -math.inf):
        sent = replace(messages["BlockGradient"], loss=loss)
        read = BlockGradient.from_bytes(sent.to_bytes(), depths)
        assert math.isnan(read.loss)
        server = torch.optim.SGD(depths.all_parameters(), lr=0.1)
        report = apply_round(server, depths, messages["RoundPlan"], [read])
        assert report.refused == ((sent.device, sent.depth, "the loss is not finite"),)
