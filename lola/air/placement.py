"""Which layer of a model the radio computes, for as long as it is not taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.air.layers import OverTheAirLinear
from lola.models.cutting import innermost
from lola.models.depths import Depths
from lola.models.errors import ModelError
from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Placement:
    """A layer that is computed by the radio, until it is taken back. Made by `put_over_the_air`.

    Attributes
    ----------
    radio : OverTheAirLinear
        With the symbols sent so far, and their latency.
    """

    def __init__(self, radio: OverTheAirLinear, layer: nn.Module, register: Callable[[], Any]) -> None:
        for other in _radios_of(layer):
            raise LolaValueError(
                f"at names what is over the air already, by {other}; call the remove of its Placement first, of a "
                "copied model before it is copied"
            )
        self.radio, self._handle = radio, register()

    def remove(self) -> None:
        """Let the layer compute as before."""
        self._handle.remove()

    def __enter__(self) -> OverTheAirLinear:
        return self.radio

    def __exit__(self, *_: object) -> None:
        self.remove()


def over_the_air(model: nn.Module) -> Iterator[tuple[str, OverTheAirLinear]]:
    """Give what the radio computes of a model, by name."""
    return ((name, radio) for name, module in model.named_modules() for radio in _radios_of(module))


def _radios_of(module: nn.Module) -> Iterator[OverTheAirLinear]:
    """Give what computes a module, or carries its input, by its hooks: a copy of a module has copies of these."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return (hook.radio for hook in hooks if isinstance(hook, _Carry | _Product))


@dataclass(frozen=True, eq=False)
class _Carry:
    """What a block's hidden states go through before it: an object, for a function would stay one of several copies."""

    radio: OverTheAirLinear

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self.radio(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self.radio(kwargs["hidden_states"])}


@dataclass(frozen=True, eq=False)
class _Product:
    """What computes a linear layer in its stead."""

    radio: OverTheAirLinear
    name: str
    weight: torch.Tensor  # that the radio was made for

    def __call__(self, layer: nn.Linear, args: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        import torch

        # By value, for a merge of adapters writes through .data, which torch does not count as a new version.
        if layer.weight.requires_grad or not torch.equal(layer.weight.to(self.weight), self.weight):
            raise LolaValueError(
                f"the weights of {self.name or 'the layer'} must stay as they were when it was put over the air, and "
                "they are trained or have changed; freeze them, or put the layer there anew"
            )
        product = self.radio(args[0])
        return product if layer.bias is None else product + layer.bias


def put_over_the_air(
    model: Depths | nn.Module,
    at: str | int,
    channel: ArrayLike,
    *,
    snr_db: float = 20.0,
    bandwidth_hz: float = 20e6,
    noise: torch.Generator | None = None,
) -> Placement:
    """Let the radio compute a linear layer of a model, or carry the hidden states from one block to the next.

    Names, weights and state dictionaries stay as they are. To a session it belongs to what tells a run from another, if
    it is done before the session is made, and stays so for its rounds. A copy of the model has a radio of its own,
    which cannot be taken back.

    Parameters
    ----------
    model : Depths or torch.nn.Module
    at : str or int
        The name of a `torch.nn.Linear` whose weights are frozen, such as a LoRA layer's ``"….query.base_layer"``: its
        input is on the device, its output at the server, which adds the bias. Or, of a `Depths`, the depth of the first
        block that the server has: the matrix is then the identity, and masks go beside.
    channel, snr_db, bandwidth_hz, noise
        See `OverTheAirLinear`.

    Returns
    -------
    Placement
        Its `remove` takes the layer back; so does the end of a ``with`` block, which gives the `OverTheAirLinear`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the layer is over the air already; from within the forward pass, if the
        layer's weights are not what they were.
    lola.models.ModelError
        If the model has no such block, or does not say how wide its hidden states are.

    Examples
    --------
    >>> import torch
    >>> from lola.air import put_over_the_air, rayleigh_channel
    >>> linear = torch.nn.Linear(3, 2).requires_grad_(False)
    >>> with put_over_the_air(linear, "", rayleigh_channel(4, 4, seed=0), snr_db=60.0) as radio:
    ...     received = linear(torch.ones(5, 3))
    >>> bool((received - linear(torch.ones(5, 3))).abs().max() < 0.1), radio.symbols
    (True, 5)
    """
    options: dict[str, Any] = {"snr_db": snr_db, "bandwidth_hz": bandwidth_hz, "noise": noise}
    if isinstance(at, int) and not isinstance(at, bool):
        return _before_block(model, at, channel, options)
    if not isinstance(at, str):
        raise LolaTypeError(f"at must be the name of a linear layer or the depth of a block, got {shown(at)}")
    return _in_place_of(model.model if isinstance(model, Depths) else model, at, channel, options)


def _before_block(model: Depths | nn.Module, depth: int, channel: ArrayLike, options: dict[str, Any]) -> Placement:
    if not isinstance(model, Depths):
        kind = type(model).__name__
        raise LolaTypeError(f"at must be a layer's name for a {kind}, got {depth}; a depth is of a lola.models.Depths")
    if not 1 <= depth <= len(model):
        raise LolaValueError(f"at must be a depth in 1…{len(model)}, 1 nearest the output; got {depth}")
    width = getattr(getattr(model.model, "config", None), "hidden_size", None)
    if not isinstance(width, int):
        raise ModelError(
            f"{type(model.model).__name__} does not say how wide its hidden states are (config.hidden_size); name a "
            "linear layer"
        )
    radio = OverTheAirLinear(np.eye(width), channel, **options)
    block, carry = innermost(model.blocks[depth - 1], 0), _Carry(radio)
    return Placement(radio, block, lambda: block.register_forward_pre_hook(carry, with_kwargs=True, prepend=True))


def _in_place_of(model: nn.Module, name: str, channel: ArrayLike, options: dict[str, Any]) -> Placement:
    from torch import nn

    linear = dict(model.named_modules()).get(name)
    if not isinstance(linear, nn.Linear):
        linears = [known for known, module in model.named_modules() if isinstance(module, nn.Linear)]
        came = "no module" if linear is None else type(linear).__name__
        raise LolaValueError(
            f"at must name a torch.nn.Linear, got {shown(name)}, which is {came}; the model's are "
            f"{', '.join(linears[:4]) or 'none'}{', …' * (len(linears) > 4)}"
        )
    radio = OverTheAirLinear(linear.weight, channel, **options)
    product = _Product(radio, name, linear.weight.detach().clone())
    return Placement(radio, linear, lambda: linear.register_forward_hook(product))
