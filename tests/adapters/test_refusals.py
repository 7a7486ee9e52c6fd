"""What the server makes of answers that are none, and of gradients that would spoil a block for good."""

import copy
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_depths, tiny_problem, weights_of

import lola
from lola.adapters import BlockGradient, NormBound, RoundPlan, apply_round, block_gradient


class Round:
    """The second round of a tiny model, whose optimizer has state by then."""

    def __init__(self, folder, make=lambda parameters: torch.optim.Adam(parameters, lr=1e-2)):
        self.depths = tiny_depths(folder, zero_init=False)
        self.depths.model.eval()
        self.server = make(self.depths.all_parameters())
        self.plan = RoundPlan.from_schedule(lola.schedule(tiny_problem(3)), 0)
        self.apply(self.answers())
        self.plan = replace(self.plan, version=1, tasks=tuple(replace(task, version=1) for task in self.plan.tasks))

    def answers(self):
        batch = tiny_columns("bert", 6, seed=4)
        return [block_gradient(self.depths, task, [batch], 1) for task in self.plan.tasks]

    def apply(self, answers, **options):
        return apply_round(self.server, self.depths, self.plan, answers, **options)

    def everything(self):
        """Weights and the optimizer's whole state, as values to compare."""
        state = self.server.state_dict()
        entries = {(i, name): value for i, found in state["state"].items() for name, value in found.items()}
        values = [weight.tolist() for weight in weights_of(self.depths)]
        return values, {key: torch.as_tensor(value).tolist() for key, value in entries.items()}, state["param_groups"]


def with_first(change):
    """Change the first gradient of an answer."""

    def spoil(answer, parameters):
        name = next(iter(answer.gradients))
        return replace(answer, gradients={**answer.gradients, name: change(answer.gradients[name], parameters[name])})

    return spoil


def having(**changes):
    return lambda answer, parameters: replace(answer, **changes)


class Subclass(torch.Tensor):
    pass


NO_TENSOR = "wanted a plain torch.Tensor"
MALFORMED = {
    "a word": (lambda *_: "junk", "a BlockGradient was wanted, got str"),
    "a number": (lambda *_: 7, "a BlockGradient was wanted, got int"),
    "its fields": (lambda answer, _: vars(answer), "a BlockGradient was wanted, got dict"),
    "the class": (lambda *_: BlockGradient, "a BlockGradient was wanted, got type"),
    "depth as float": (having(depths=2.0), "its depths must be a range or an integer, got float"),
    "depth as truth": (having(depths=True), "its depths must be a range or an integer, got bool"),
    "depth as list": (having(depths=[2]), r"its depths must be a range or an integer, got list"),
    "no depth": (having(depths=None), "its depths must be a range or an integer, got NoneType"),
    "device as text": (having(device="3"), "its device must be an integer, got str"),
    "version as tensor": (having(version=torch.ones(2)), "its version must be an integer, got Tensor"),
    "version as truth": (having(version=True), "its version must be an integer, got bool"),
    "loss as truth": (having(loss=True), "the loss is not finite"),
    "loss as text": (having(loss="0.5"), "the loss is not finite"),
    "loss beyond floats": (having(loss=10**400), "the loss is not finite"),
    "loss of numpy": (having(loss=np.float32("nan")), "the loss is not finite"),
    "list of gradients": (having(gradients=[torch.ones(1)]), "the gradients must be by name"),
    "sparse": (with_first(lambda g, _: g.to_sparse()), "is not dense; send it with to_dense"),
    "compressed": (with_first(lambda g, _: g.to_sparse_csc()), "is not dense"),
    "nested": (with_first(lambda g, _: torch.nested.nested_tensor([g[0], g[0]])), "is not dense"),
    "meta": (with_first(lambda g, _: g.to("meta")), "is on the meta device, without values; send them"),
    "subclass": (with_first(lambda g, _: g.as_subclass(Subclass)), f"is a Subclass, {NO_TENSOR}"),
    "the parameter": (with_first(lambda _, p: p), f"is a Parameter, {NO_TENSOR}"),
    "the parameter's memory": (with_first(lambda _, p: p.detach()), "shares its memory with the parameter itself"),
    "a view of it": (with_first(lambda _, p: p.data.flip(0).set_(p.data)), "shares its memory with the parameter"),
}
# Nested tensors are a prototype, and compressed ones in beta, as torch never tires to say.
quiet = pytest.mark.filterwarnings("ignore:(?s).*(prototype|beta) s")


@quiet
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_answer_is_refused_alone(tmp_path, kind):
    spoil, why = MALFORMED[kind]
    ours, healthy = Round(tmp_path), Round(tmp_path)
    answers = ours.answers()
    healthy.apply([answers[0], answers[2]])
    report = ours.apply([answers[0], spoil(answers[1], ours.depths.named_parameters(2)), answers[2]])
    assert (report.version, report.applied, report.missing) == (2, (1, 3), (2,))
    ((device, depth, said),) = report.refused
    assert re.search(why, said)
    assert said in str(report)
    assert device in (answers[1].device, None)
    assert depth in (2, None)
    assert ours.everything() == healthy.everything()


def test_an_answer_that_names_nobody_is_told_so(tmp_path):
    report = Round(tmp_path).apply(["junk"])
    assert report.refused == ((None, None, "a BlockGradient was wanted, got str"),)
    assert "device unknown refused at depth unknown: a BlockGradient" in str(report)


@pytest.mark.parametrize("loss", [np.float32(0.5), np.float16(0.5), 3, np.int64(3), Fraction(1, 2)], ids=repr)
def test_a_finite_loss_of_any_kind_of_number_is_taken(tmp_path, loss):
    ours = Round(tmp_path)
    answers = [replace(answer, loss=loss, device=np.int64(answer.device)) for answer in ours.answers()]
    assert ours.apply(answers).applied == (1, 2, 3)


def test_gradients_stay_the_sender_s(tmp_path):
    """Clipping before a step changes gradients in place, and one tensor may be sent for two parameters."""
    ours = Round(tmp_path, lambda parameters: torch.optim.SGD(parameters, lr=1.0))

    def halve(*_):
        for parameter in ours.depths.all_parameters():
            parameter.grad.mul_(0.5)

    ours.server.register_step_pre_hook(halve)
    (answer, *others), before = ours.answers(), weights_of(ours.depths)
    same = torch.ones(1).expand(2, 16)
    names = [name for name, gradient in answer.gradients.items() if gradient.shape == (2, 16)]
    assert len(names) > 1
    gradients = answer.gradients | dict.fromkeys(names, same)
    assert ours.apply([replace(answer, gradients=gradients), *others]).applied == (1, 2, 3)
    assert torch.equal(same, torch.ones(2, 16))
    for i, (name, parameter) in enumerate(ours.depths.named_parameters(1).items()):
        if name in names:
            assert torch.equal(parameter.detach(), before[i] - 0.5)


def test_a_gradient_left_from_before_steps_nothing(tmp_path):
    """As a block's own backward leaves it, when its answer never comes."""
    ours, healthy = Round(tmp_path), Round(tmp_path)
    answers = ours.answers()
    for parameter in ours.depths.parameters(2):
        parameter.grad = torch.ones_like(parameter)
    assert ours.apply([answers[0], answers[2]]).missing == healthy.apply([answers[0], answers[2]]).missing == (2,)
    assert ours.everything() == healthy.everything()


def outlier(answer, value):
    return replace(answer, gradients={name: torch.full_like(g, value) for name, g in answer.gradients.items()})


class Counting(torch.optim.Optimizer):
    """Keeps plain numbers beside a parameter and in its group, as some optimizers do."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 1e-2, "steps": 0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["steps"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    state["steps"] = state.get("steps", 0) + 1
                    state["sum"] = state.get("sum", 0.0) + float(parameter.grad.square().sum())
                    parameter -= group["lr"] * parameter.grad * parameter.grad.abs()


OVERFLOWING = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    "one by one": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, foreach=False),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, amsgrad=True),
    "NAdam": lambda parameters: torch.optim.NAdam(parameters, lr=1e-2),
    "RAdam": lambda parameters: torch.optim.RAdam(parameters, lr=1e-2),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-2, momentum=0.5, centered=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=1e-2),
    "Adadelta": lambda parameters: torch.optim.Adadelta(parameters),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=100.0),
    "counting": Counting,
}


@pytest.mark.parametrize("optimizer", OVERFLOWING)
def test_a_step_that_would_not_stay_finite_is_taken_back(tmp_path, optimizer):
    ours, healthy = (Round(tmp_path, OVERFLOWING[optimizer]) for _ in range(2))
    first, second, third = ours.answers()
    healthy.apply([first, third])
    report = ours.apply([first, outlier(second, 1e38), third])
    assert (report.applied, report.missing) == ((1, 3), (2,))
    ((device, depth, why),) = report.refused
    assert (device, depth) == (second.device, 2)
    assert re.fullmatch(r"its step would make (the optimizer's \w+ of )?\S+lora_A\S+ not finite", why)
    assert ours.everything() == healthy.everything()
    ours.plan = replace(ours.plan, version=2)
    again = ours.apply([replace(answer, version=2) for answer in (first, second, third)])
    assert again.applied == (1, 2, 3)  # the block is as alive as before


def test_a_block_that_was_never_stepped_keeps_no_state_of_an_outlier(tmp_path):
    ours = Round(tmp_path)
    ours.server.state.clear()
    before = ours.everything()
    report = ours.apply([outlier(answer, 1e38) for answer in ours.answers()])
    assert (report.applied, report.missing, len(report.refused)) == ((), (1, 2, 3), 3)
    assert ours.everything() == before
    assert not ours.server.state


def test_what_only_overflows_once_others_are_gone_is_refused_too(tmp_path):
    """A hook that shares one scale among blocks: the step is checked anew each time."""
    ours, healthy = Round(tmp_path), Round(tmp_path)
    first, second, third = ours.answers()
    healthy.apply([first])

    def shrink_all_if_three(*_):
        gradients = [p.grad for p in ours.depths.all_parameters() if p.grad is not None]
        if len(gradients) == len(ours.depths.all_parameters()):
            for parameter in ours.depths.parameters(3):
                parameter.grad.mul_(1e-38)

    ours.server.register_step_pre_hook(shrink_all_if_three)
    report = ours.apply([first, outlier(second, 1e38), outlier(third, 1e38)])
    assert report.applied == (1,)
    assert [depth for _, depth, _ in report.refused] == [2, 3]
    assert ours.everything() == healthy.everything()


def test_an_outlier_is_refused_by_the_norms_of_its_block(tmp_path):
    ours, bound = Round(tmp_path), NormBound(10)
    answers = ours.answers()
    usual = float(torch.cat([g.flatten() for g in answers[1].gradients.values()]).norm())
    for _ in range(5):  # too few to judge by
        report = ours.apply(answers, bound=bound)
        assert report.applied == (1, 2, 3)
    assert bound.recent[2] == pytest.approx([usual] * 5)
    scaled = replace(answers[1], gradients={name: 9.9 * g for name, g in answers[1].gradients.items()})
    assert ours.apply([answers[0], scaled, answers[2]], bound=bound).applied == (1, 2, 3)
    for value in (100.0, 1e38):
        before = ours.everything()[0], copy.deepcopy(bound.recent[2])
        report = ours.apply([outlier(answers[1], value)], bound=bound)
        ((_, depth, why),) = report.refused
        assert depth == 2
        assert re.fullmatch(
            r"the norm of its gradient, \S+, is more than 10 times \S+, the median of this block's last 6", why
        )
        assert (ours.everything()[0], bound.recent[2]) == before
    for _ in range(30):
        ours.apply(answers, bound=bound)
    assert bound.recent[2] == pytest.approx([usual] * 20)


def test_norms_that_say_nothing_bound_nothing(tmp_path):
    """A gradient of zeros, and one whose step is taken back, leave no norm behind; one beyond floats is refused."""
    ours, bound = Round(tmp_path), NormBound(2)
    answers = ours.answers()
    for value in (0.0, 1e38):
        ours.apply([outlier(answers[1], value)], bound=bound)
        assert bound.recent == {}
    double = Round(tmp_path, lambda parameters: torch.optim.SGD(parameters, lr=1e-200))
    double.depths.model.double()
    vast = [outlier(replace(a, gradients={n: g.double() for n, g in a.gradients.items()}), 1e200) for a in answers]
    report = double.apply(vast[:1], bound=bound)
    assert [why for _, _, why in report.refused] == ["the norm of its gradient is not finite"]
    assert double.apply(vast[:1]).applied == (1,)


def test_a_bound_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"refuse_above must be more than 1, or usual gradients are refused; got 1.0"):
        NormBound(1.0)
    with pytest.raises(ValueError, match="refuse_above must be finite and > 0"):
        NormBound(float("nan"))
    with pytest.raises(TypeError, match="refuse_above must be"):
        NormBound("10")
