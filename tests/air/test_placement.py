"""Layers of a model over the air: gradients and losses that near the digital ones, sessions, and what is taken back."""

import copy
import math

import numpy as np
import pytest
import torch
from cooperative import tiny_columns, tiny_depths, tiny_session, weights_of

import lola
from lola.air import put_over_the_air, rayleigh_channel
from lola.air.placement import over_the_air


def batch_and_depths(folder, dtype=torch.float64):
    depths = tiny_depths(folder, zero_init=False, dtype=dtype)
    depths.model.eval()
    depths.select_all()
    return tiny_columns("bert", 16, seed=1), depths


def inputs_of(module, run):
    """What a module is called with while something runs."""
    seen = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).detach()), with_kwargs=True
    )
    run()
    handle.remove()
    return seen[0]


def layer_of(depths, at):
    return depths.blocks[at - 1] if isinstance(at, int) else dict(depths.model.named_modules())[at]


def linear_name(depths):
    return next(name for name, _ in depths.model.named_modules() if name.endswith("layer.1.output.dense"))


@pytest.mark.parametrize("boundary", [True, False], ids=["before a block", "a linear layer"])
def test_the_loss_nears_the_digital_one_as_the_closed_form_says(boundary, tmp_path):
    batch, depths = batch_and_depths(tmp_path)
    at = 2 if boundary else linear_name(depths)
    many = {name: column.repeat(100, *[1] * (column.dim() - 1)) for name, column in batch.items()}  # as loud as one

    def losses():
        logits = depths.model(**many).logits
        return torch.nn.functional.cross_entropy(logits, many["labels"], reduction="none").reshape(100, 16).mean(dim=1)

    with torch.no_grad():
        digital = depths.model(**batch).loss
        hidden = inputs_of(layer_of(depths, at), lambda: depths.model(**batch))
        rms, ratio = [], []
        for snr_db in range(0, 61, 10):
            noise = torch.Generator().manual_seed(snr_db)
            with put_over_the_air(depths, at, rayleigh_channel(4, 4, seed=3), snr_db=snr_db, noise=noise) as radio:
                differences = losses() - digital
            rms.append(float(differences.square().mean().sqrt()))
            ratio.append(rms[-1] / math.sqrt(radio.expected_squared_error(hidden)))
    assert differences.abs().max() < 1e-2  # at 60 dB
    assert (np.diff(rms) < 0).all()
    assert ratio[-4:] == pytest.approx([np.mean(ratio[-4:])] * 4, rel=0.25)
    assert torch.equal(depths.model(**batch).loss, digital)  # taken back


def test_gradients_come_back_over_the_air(tmp_path):
    batch, depths = batch_and_depths(tmp_path)

    def gradients():
        depths.model.zero_grad()
        depths.model(**batch).loss.backward()
        return {name: one.grad.clone() for name, one in depths.all_named_parameters().items()}

    digital = gradients()
    for snr_db, least, most in ((100.0, 0.0, 1e-3), (20.0, 1e-3, math.inf)):
        with put_over_the_air(depths, 2, rayleigh_channel(4, 4, seed=3), snr_db=snr_db) as radio:
            near = gradients()
        assert radio.symbols == 16 * 8 * (radio.forward_symbols + radio.backward_symbols)
        for name, gradient in digital.items():
            off = float((near[name] - gradient).norm() / gradient.norm())
            assert least < off < most or gradient.norm() == 0, (name, snr_db, off)
    again = gradients()
    assert all(torch.equal(again[name], gradient) for name, gradient in digital.items())


def test_a_bias_is_the_server_s(tmp_path):
    linear = torch.nn.Linear(3, 2)
    linear.weight.requires_grad_(False)
    with put_over_the_air(linear, "", rayleigh_channel(2, 2, seed=0)):
        linear(torch.ones(4, 3)).sum().backward()
    assert linear.bias.grad.tolist() == [4.0, 4.0]
    assert linear.weight.grad is None


def test_a_session_over_the_air_goes_on_with_the_same_bits(tmp_path):
    def session(keep):
        depths = tiny_depths(tmp_path)
        put_over_the_air(depths, 2, rayleigh_channel(4, 4, seed=3), snr_db=10.0)
        return tiny_session(tmp_path, depths=depths, keep=keep)

    whole, digital = session(False), tiny_session(tmp_path, keep=False)
    list(whole.run(4))
    list(digital.run(4))
    list(session(True).run(2))
    rest = session(True)
    assert rest.version == 2
    list(rest.run(4))
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(rest), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(digital), strict=True))


def test_a_layer_over_the_air_makes_another_run(tmp_path):
    """What was put over the air before a session is made tells its run from others, all but the name of the same."""

    def go_on(**radio):
        depths = tiny_depths(tmp_path)
        if radio:
            put_over_the_air(depths, **{"at": 2, "channel": rayleigh_channel(4, 4, seed=3), "snr_db": 10.0} | radio)
        return tiny_session(tmp_path, depths=depths)

    list(go_on(snr_db=10.0).run(1))
    assert go_on(snr_db=10.0).version == 1
    for other in ({}, {"snr_db": 0.0}, {"at": 1}, {"channel": rayleigh_channel(4, 4, seed=4)}, {"bandwidth_hz": 1e6}):
        with pytest.raises(lola.FormatError, match="the checkpoint is of another run"):
            go_on(**other)


def test_a_session_s_layers_over_the_air_stay_those_that_it_was_made_with(tmp_path):
    depths = tiny_depths(tmp_path)
    first = put_over_the_air(depths, 2, np.eye(4))
    session = tiny_session(tmp_path, depths=depths, keep=False)
    list(session.run(1))
    first.remove()
    with pytest.raises(lola.LolaError, match=r"layers over the air must stay those .*, \['.+'\], got \[\] .* before"):
        next(session.run(2))
    with put_over_the_air(depths, 2, np.eye(4)), pytest.raises(lola.LolaError, match=r"put there anew is another"):
        next(session.run(2))
    assert session.version == 1


def test_a_session_takes_no_noise_but_its_own(tmp_path):
    """A generator's state is in no checkpoint: a run that went on would have other bits."""
    depths = tiny_depths(tmp_path)
    with (
        put_over_the_air(depths, 2, np.eye(4), noise=torch.Generator()),
        pytest.raises(lola.LolaError, match=r"noise .* session's seed, got a generator of its own for .+; leave noise"),
    ):
        tiny_session(tmp_path, depths=depths)
    radio = put_over_the_air(depths, 2, np.eye(4)).radio
    session = tiny_session(tmp_path, depths=depths)
    radio.noise = torch.Generator()
    with pytest.raises(lola.LolaError, match="got a generator of its own"):
        next(session.run(1))
    assert session.version == 0


@pytest.mark.parametrize("at", ["a linear layer", "a block"])
def test_a_copy_of_a_model_sends_on_a_radio_of_its_own(at, tmp_path):
    batch, depths = batch_and_depths(tmp_path)
    at = 2 if at == "a block" else linear_name(depths)
    with put_over_the_air(depths, at, np.eye(4), noise=torch.Generator().manual_seed(1)) as radio:
        depths.model(**batch)
        sent, other = radio.symbols, copy.deepcopy(depths)
        loss = other.model(**batch).loss
        ((name, theirs),) = over_the_air(other.model)
        assert (radio.symbols, theirs.symbols) == (sent, 2 * sent)
        assert [name] == [ours for ours, _ in over_the_air(depths.model)]
        assert torch.equal(depths.model(**batch).loss, loss)  # of the same noise
        with pytest.raises(lola.LolaError, match="of its Placement first, of a copied model before it is copied"):
            put_over_the_air(other, at, np.eye(4))
    assert not dict(over_the_air(depths.model))


@pytest.mark.parametrize("at", ["a linear layer", "a block"])
def test_a_layer_goes_over_the_air_once(at, tmp_path):
    batch, depths = batch_and_depths(tmp_path)
    at = 2 if at == "a block" else linear_name(depths)
    first = put_over_the_air(depths, at, np.eye(4))
    first.remove()
    with put_over_the_air(depths, at, np.eye(4)) as radio:
        first.remove()  # no longer its own
        with pytest.raises(lola.LolaError, match=r"over the air already, by <OverTheAirLinear .*; call the remove of"):
            put_over_the_air(depths, at, np.eye(4))
        depths.model(**batch)
    assert radio.symbols > 0
    assert first.radio.symbols == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_that_were_written_past_torch_s_versions_are_seen(dtype):
    """As PEFT merges adapters; also where the matrix and the weights might share their memory."""
    linear = torch.nn.Linear(3, 2, dtype=dtype).requires_grad_(False)
    with put_over_the_air(linear, "", np.eye(2)):
        linear(torch.ones(1, 3, dtype=dtype))
        linear.weight.data += 1e-3
        with pytest.raises(lola.LolaError, match="must stay as they were .* they are trained or have changed"):
            linear(torch.ones(1, 3, dtype=dtype))


def trained(_):
    linear = torch.nn.Linear(3, 2)
    put_over_the_air(linear, "", np.ones((1, 1)))
    linear(torch.ones(1, 3))


def changed(_):
    linear = torch.nn.Linear(3, 2).requires_grad_(False)
    put_over_the_air(linear, "", np.ones((1, 1)))
    linear.load_state_dict({"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    linear(torch.ones(1, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda depths: put_over_the_air(depths, 4, np.eye(2)),
            "at must be a depth in 1…3, 1 nearest the output; got 4",
        ),
        (lambda depths: put_over_the_air(depths, 1.0, np.eye(2)), "at must be the name of a linear layer or the depth"),
        (
            lambda depths: put_over_the_air(depths, "dense", np.eye(2)),
            "got 'dense', which is no module; the model's are",
        ),
        (
            lambda depths: put_over_the_air(depths.model, 1, np.eye(2)),
            "at must be a layer's name for a .*, got 1; a depth is of a lola.models.Depths",
        ),
        (
            lambda depths: put_over_the_air(depths, "", np.eye(2)),
            "at must name a torch.nn.Linear, got '', which is .*; the model's are .*, …",
        ),
        (trained, "the weights of the layer must stay as they were .* freeze them, or put the layer there anew"),
        (changed, "the weights of the layer must stay as they were .* they are trained or have changed"),
    ],
)
def test_what_cannot_be_is_refused(make, message, tmp_path):
    with pytest.raises(lola.LolaError, match=message):
        make(tiny_depths(tmp_path))


def test_a_model_must_say_how_wide_its_hidden_states_are(tmp_path):
    depths = tiny_depths(tmp_path)
    depths.model.config = None
    with pytest.raises(lola.models.ModelError, match=r"does not say how wide .* \(config.hidden_size\); name a linear"):
        put_over_the_air(depths, 1, np.eye(2))
