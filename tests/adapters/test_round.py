"""A round in three pieces: its gradient is the one of central backpropagation, and a fault stays where it is."""

import copy
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cooperative import n_blocks_of, tiny_columns, tiny_depths, tiny_problem, weights_of
from tiny_models import every_model

import lola
from lola.adapters import BlockTask, RoundPlan, apply_round, block_gradient
from lola.profiling import ProfilingError

every_length = pytest.mark.parametrize("longest", [1, 2, None], ids=["one block", "two blocks", "all blocks"])
OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, weight_decay=0.1),
}


def plan_for(n_blocks, version=0, longest=1):
    """As few devices as can hold segments so long, so that they must."""
    few = {} if longest == 1 else {"n_devices": math.ceil(n_blocks / (longest or n_blocks)), "memory_bytes": (6e9, 7e9)}
    return RoundPlan.from_schedule(lola.schedule(tiny_problem(n_blocks, max_blocks=longest, **few)), version)


@every_length
@every_model
def test_the_gradient_of_a_round_equals_central_backpropagation(tmp_path, name, longest):
    """With B not zero, so that every gradient is there to compare."""
    depths = tiny_depths(tmp_path, name, zero_init=False, dtype=torch.float64)
    depths.model.eval()
    batch = tiny_columns(name, 6, seed=4, dtype=torch.float64)
    tasks = plan_for(n_blocks_of(name), longest=longest).tasks
    assert max(len(task.depths) for task in tasks) == (longest or n_blocks_of(name))
    answers = [block_gradient(depths, task, [batch], 1) for task in tasks]
    assembled = {name: gradient for answer in answers for name, gradient in answer.gradients.items()}
    depths.select_all()
    depths.model(**batch).loss.backward()
    central = {name: p.grad for name, p in depths.model.named_parameters() if p.requires_grad}
    assert assembled.keys() == central.keys()
    for parameter, gradient in central.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(assembled[parameter], gradient, rtol=1e-10, atol=1e-12)


@every_length
@every_model
def test_a_cooperative_run_is_centralised_training_step_by_step(tmp_path, name, longest):
    depths = tiny_depths(tmp_path, name, dtype=torch.float64)
    depths.model.eval()
    central = copy.deepcopy(depths)
    steps, losses, central_losses = 50, [], []
    optimizer = OPTIMIZERS["adam"](depths.all_parameters())
    central_optimizer = OPTIMIZERS["adam"](central.all_parameters())
    central.select_all()
    for version in range(steps):
        batch = tiny_columns(name, 6, seed=version, dtype=torch.float64)
        plan = plan_for(n_blocks_of(name), version, longest)
        answers = [block_gradient(depths, task, [batch], 1) for task in plan.tasks]
        report = apply_round(optimizer, depths, plan, answers)
        assert (report.version, report.missing, report.refused) == (version + 1, (), ())
        losses.append(answers[0].loss)
        loss = central.model(**batch).loss
        loss.backward()
        central_optimizer.step()
        central_optimizer.zero_grad()
        central_losses.append(loss.item())
    assert losses[-1] != losses[0]
    np.testing.assert_allclose(losses, central_losses, rtol=1e-8)


def test_local_steps_are_averaged_at_fixed_parameters(tmp_path):
    depths = tiny_depths(tmp_path, zero_init=False, dtype=torch.float64)
    depths.model.eval()
    columns = tiny_columns("bert", 6, seed=4)
    batches = [{name: column[start : start + 2] for name, column in columns.items()} for start in (0, 2, 4)]
    task = BlockTask(0, 0, 2, 1e6)
    whole = block_gradient(depths, task, [columns], 1)
    parts = block_gradient(depths, task, itertools.cycle(batches), 3)
    assert parts.loss == pytest.approx(whole.loss)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(parts.gradients[name], gradient)
    assert all(parameter.grad is None for parameter in depths.model.parameters())


def test_no_block_below_keeps_anything_for_backward(tmp_path):
    depths = tiny_depths(tmp_path)
    kept = {}

    def note(depth, output):
        hidden = output[0] if isinstance(output, tuple) else output
        kept[depth] = hidden.requires_grad

    for depth, block in enumerate(depths.blocks, start=1):
        block.register_forward_hook(lambda _, __, output, depth=depth: note(depth, output))
    block_gradient(depths, BlockTask(0, 0, 2, 1e6), [tiny_columns("bert", 4, seed=0)], 1)
    assert kept == {1: True, 2: True, 3: False}


def test_an_own_loss_can_be_given(tmp_path):
    depths, depths_again = tiny_depths(tmp_path), tiny_depths(tmp_path)
    depths.model.eval(), depths_again.model.eval()  # without dropout
    columns = tiny_columns("bert", 4, seed=0)
    task = BlockTask(0, 0, 1, 1e6)
    ours = block_gradient(depths, task, [columns], 1, loss=lambda model, batch: 3 * model(**batch).loss)
    usual = block_gradient(depths_again, task, [columns], 1)
    assert ours.loss == pytest.approx(3 * usual.loss)


def test_what_a_device_cannot_do_is_said(tmp_path):
    depths = tiny_depths(tmp_path)
    batch = tiny_columns("bert", 4, seed=0)
    with pytest.raises(ValueError, match="3 local batches are needed, device 6 has 2; give it more data"):
        block_gradient(depths, BlockTask(0, 6, 1, 1e6), [batch, batch], 3)
    with pytest.raises(ValueError, match=r"depths must be neighbours between 1 and 3, .*; got range\(4, 5\)"):
        block_gradient(depths, BlockTask(0, 6, 4, 1e6), [batch], 1)
    with pytest.raises(ValueError, match="local_steps must be"):
        block_gradient(depths, BlockTask(0, 6, 1, 1e6), [batch], 0)
    with pytest.raises(lola.LolaError, match="depths must be a Depths, got Bert.*; make it .* attach_lora"):
        block_gradient(depths.model, BlockTask(0, 6, 1, 1e6), [batch], 1)
    with pytest.raises(lola.LolaError, match="task must be a BlockTask, got int"):
        block_gradient(depths, 1, [batch], 1)
    with pytest.raises(ValueError, match="the loss does not depend on .*lora_A.*, which depth 3 trains"):
        block_gradient(depths, BlockTask(0, 6, 3, 1e6), [batch], 1, loss=_loss_of_the_head_alone)
    with pytest.raises(
        TypeError, match=r"a batch must be a mapping of names to tensors.*, got tuple; or give your own"
    ):
        block_gradient(depths, BlockTask(0, 6, 1, 1e6), [tuple(batch.values())], 1)
    del batch["labels"]
    with pytest.raises(
        ValueError,
        match="gives no loss for its labels: .*, got SequenceClassifierOutput of logits for a batch of input_ids, "
        "attention_mask; a batch needs labels",
    ):
        block_gradient(depths, BlockTask(0, 6, 1, 1e6), [batch], 1)
    batch = tiny_columns("bert", 4, seed=0)
    depths.model.enable_input_require_grads()
    with pytest.raises(ProfilingError, match="it makes the embeddings require a gradient"):
        block_gradient(depths, BlockTask(0, 6, 1, 1e6), [batch], 1)


@pytest.mark.parametrize(
    "give", [lambda loss, logits: {"loss": loss, "logits": logits}, lambda *both: both, lambda loss, _: loss]
)
def test_a_model_may_give_its_loss_as_models_do(tmp_path, give):
    """As a mapping, first of a tuple, or alone; and what is neither is said."""
    depths, batch, task = tiny_depths(tmp_path), tiny_columns("bert", 4, seed=0), BlockTask(0, 6, 2, 1e6)
    depths.model.eval()
    wanted = block_gradient(depths, task, [batch])
    whole = depths.model.forward
    depths.model.forward = lambda **inputs: give(*whole(**inputs, return_dict=False))
    got = block_gradient(depths, task, [batch])
    assert got.loss == wanted.loss
    assert all(torch.equal(value, wanted.gradients[name]) for name, value in got.gradients.items())
    for other, said in (
        ({"logits": 3}, "got dict of logits for"),
        ((torch.ones(4, 2), 3), r"got tuple of Tensor of shape \(4, 2\), int for a batch of input_ids"),
        ((), "got tuple of nothing for"),
        (None, "got NoneType for"),
    ):
        depths.model.forward = lambda other=other, **_: other
        with pytest.raises(ProfilingError, match=f"gives no loss for its labels: a loss, alone, .* was wanted, {said}"):
            block_gradient(depths, task, [batch])


def _loss_of_the_head_alone(model, batch):
    head = model.classifier.weight.requires_grad_(True)
    return head.square().sum() * len(batch)


def poison(answer, value, dtype=torch.float32):
    name = next(iter(answer.gradients))
    gradients = dict(answer.gradients)
    gradients[name] = torch.full_like(gradients[name], value, dtype=dtype)
    return replace(answer, gradients=gradients)


def reshaped(answer):
    name = next(iter(answer.gradients))
    return replace(answer, gradients={**answer.gradients, name: torch.zeros(1, 2)})


FAULTS = {
    "NaN": (lambda a: [poison(a, float("nan"))], "has a value that is not finite"),
    "infinite": (lambda a: [poison(a, float("inf"))], "has a value that is not finite"),
    "shape": (lambda a: [reshaped(a)], r"has shape \(1, 2\), wanted \(2, 16\)"),
    "a parameter left out": (
        lambda a: [replace(a, gradients=dict(list(a.gradients.items())[1:]))],
        "the gradients must be by name, those of .* and no others",
    ),
    "another dtype": (lambda a: [poison(a, 1e30, torch.float64)], "is torch.float64, wanted torch.float32"),
    "no tensor": (lambda a: [replace(a, gradients={n: g.numpy() for n, g in a.gradients.items()})], "is a ndarray"),
    "nothing": (lambda a: [replace(a, gradients=None)], "the gradients must be by name"),
    "no loss": (lambda a: [replace(a, loss=None)], "the loss is not finite"),
    "block of another": (lambda a: [replace(a, depths=1)], "answered depth 1, was asked for depth 2"),
    "no such block": (lambda a: [replace(a, depths=9)], "answered depth 9, was asked for depth 2"),
    "one more block": (lambda a: [replace(a, depths=range(1, 3))], "answered depths 1 to 2, was asked for depth 2"),
    "no block": (lambda a: [replace(a, depths=range(2, 2))], "answered no depths, was asked for depth"),
    "blocks without end": (lambda a: [replace(a, depths=range(10**30))], "answered depths 0 to 9+, was asked for"),
    "device that was not asked": (lambda a: [replace(a, device=99)], "was not asked for depth 2, nor for any"),
    "stale": (lambda a: [replace(a, version=0)], "the gradient is of version 0, the model is at 1"),
    "from the future": (lambda a: [replace(a, version=2)], "the gradient is of version 2, the model is at 1"),
    "loss": (lambda a: [replace(a, loss=float("nan"))], "the loss is not finite"),
    "never answers": (lambda a: [], None),
    "None for an answer": (lambda a: [None], None),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_its_block_alone_and_the_others_as_without_it(tmp_path, fault, optimizer):
    spoil, why = FAULTS[fault]
    depths = tiny_depths(tmp_path, zero_init=False)
    depths.model.eval()
    server = OPTIMIZERS[optimizer](depths.all_parameters())
    batch = tiny_columns("bert", 6, seed=4)
    plan = plan_for(3)
    first = [block_gradient(depths, task, [batch], 1) for task in plan.tasks]
    apply_round(server, depths, plan, first)  # so that there is optimizer state to be spoiled
    plan = replace(plan, version=1, tasks=tuple(replace(task, version=1) for task in plan.tasks))
    answers = [block_gradient(depths, task, [batch], 1) for task in plan.tasks]
    before, state_before = weights_of(depths), copy.deepcopy(server.state_dict()["state"])
    healthy = copy.deepcopy(depths)
    healthy_server = OPTIMIZERS[optimizer](healthy.all_parameters())
    healthy_server.load_state_dict(copy.deepcopy(server.state_dict()))
    apply_round(healthy_server, healthy, plan, answers)

    report = apply_round(server, depths, plan, [answers[0], *spoil(answers[1]), answers[2]])

    assert (report.version, report.applied, report.missing) == (2, (1, 3), (2,))
    if why is None:
        assert report.refused == ()
    else:
        assert len(report.refused) == 1
        assert re.search(why, report.refused[0][2])
        assert report.refused[0][2] in str(report)
    assert "depths 1, 3 applied; 2 missing" in str(report)
    own = {id(parameter) for parameter in depths.parameters(2)}
    after, with_all = depths.all_parameters(), healthy.all_parameters()
    states = server.state_dict()["state"], healthy_server.state_dict()["state"]
    for i, parameter in enumerate(after):
        wanted = before[i] if id(parameter) in own else with_all[i].detach()
        assert torch.equal(parameter.detach(), wanted), i
        wanted_state = state_before[i] if id(parameter) in own else states[1][i]
        for entry, value in wanted_state.items():
            assert torch.equal(torch.as_tensor(states[0][i][entry]), torch.as_tensor(value)), (i, entry)


def test_the_first_of_two_answers_counts(tmp_path):
    depths = tiny_depths(tmp_path)
    server = OPTIMIZERS["sgd"](depths.all_parameters())
    plan = plan_for(3)
    answers = [block_gradient(depths, task, [tiny_columns("bert", 6, seed=4)], 1) for task in plan.tasks]
    report = apply_round(server, depths, plan, [*answers, answers[1]])
    assert report.applied == (1, 2, 3)
    assert report.refused == ((answers[1].device, 2, "this depth was answered already"),)


def test_a_round_without_any_answer_changes_nothing_but_the_version(tmp_path):
    depths = tiny_depths(tmp_path)
    server = OPTIMIZERS["adamw"](depths.all_parameters())
    before = weights_of(depths)
    report = apply_round(server, depths, plan_for(3), [])
    assert str(report) == "version 1: depths none applied; 1, 2, 3 missing"
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(depths), strict=True))


def test_a_plan_of_another_number_of_blocks_is_refused(tmp_path):
    depths = tiny_depths(tmp_path)
    server = OPTIMIZERS["sgd"](depths.all_parameters())
    with pytest.raises(ValueError, match="the plan must be for the model's 3 blocks, got depths 1, 2; schedule a"):
        apply_round(server, depths, plan_for(2), [])


def test_an_optimizer_of_something_else_is_refused(tmp_path):
    depths = tiny_depths(tmp_path)
    plan = plan_for(3)
    answers = [block_gradient(depths, task, [tiny_columns("bert", 6, seed=4)], 1) for task in plan.tasks]
    part = torch.optim.SGD(depths.parameters(1), lr=1.0)
    with pytest.raises(ValueError, match=r"the optimizer does not hold .* of depth 2; make it over depths.all_param"):
        apply_round(part, depths, plan, answers)


def test_a_plan_says_who_does_what():
    schedule = lola.schedule(tiny_problem(3))
    plan = RoundPlan.from_schedule(schedule, 4)
    assert [task.depth for task in plan.tasks] == [1, 2, 3]
    assert [task.device for task in plan.tasks] == schedule.device_of_block.tolist()
    assert [task.bandwidth_hz for task in plan.tasks] == schedule.bandwidth_hz.tolist()
    assert {task.version for task in plan.tasks} == {4}
    assert plan.latency_s == schedule.latency_s
    part = RoundPlan.from_schedule(schedule, 4, devices=np.arange(7) + 100)
    assert [task.device for task in part.tasks] == (schedule.device_of_block + 100).tolist()
    with pytest.raises(TypeError, match="schedule must be"):
        RoundPlan.from_schedule("jbba", 0)


def test_a_plan_has_the_local_steps_of_its_schedule(tmp_path):
    problem = replace(tiny_problem(3), local_steps=2)
    schedule = lola.schedule(problem)
    lola.save_schedule(schedule, problem, tmp_path / "s.json")
    for known in (schedule, lola.load_schedule(tmp_path / "s.json")[0]):
        assert {task.local_steps for task in RoundPlan.from_schedule(known, 0).tasks} == {2}
    assert {task.local_steps for task in RoundPlan.from_schedule(schedule, 0, local_steps=3).tasks} == {3}
    with pytest.raises(ValueError, match="local_steps must be given for a schedule that does not .* the problem's"):
        RoundPlan.from_schedule(replace(schedule, local_steps=None), 0)
    with pytest.raises(ValueError, match="local_steps must be at least 1, got 0"):
        RoundPlan.from_schedule(schedule, 0, local_steps=0)
    replace(schedule, local_steps=None).verify(problem)
    with pytest.raises(lola.VerificationError, match="local_steps: is 1, but the problem has 2"):
        replace(schedule, local_steps=1).verify(problem)
