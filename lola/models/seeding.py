"""Random numbers of torch that follow from a seed, without touching what the caller draws."""

from collections.abc import Iterator
from contextlib import contextmanager

from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError

_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


def torch_seed(name: str, value: object) -> int:
    """Return `value` as an int that seeds torch, or say why it cannot."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise LolaTypeError(f"{name} must be an integer, got {type(value).__name__}: {shown(value)}")
    if not _LOWEST <= value <= _HIGHEST:
        raise LolaValueError(f"{name} must lie between -2**63 and 2**64 - 1, got {shown(value)}; take a smaller one")
    return value


@contextmanager
def seeded(seed: int | None, device: str = "cpu") -> Iterator[None]:
    """Draw from a seed while this lasts, and leave torch's random state as it was.

    Parameters
    ----------
    seed : int or None
        None draws from the state around, and so moves it on.
    device : str
        ``"cuda"`` if the GPUs draw as well. Otherwise theirs is left alone, where `torch.manual_seed` would set it.

    Raises
    ------
    TypeError, ValueError
        If the seed is none that torch takes.
    """
    if seed is None:
        yield
        return
    import torch

    number, on_cuda = torch_seed("seed", seed), device.startswith("cuda")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else []):
        (torch.manual_seed if on_cuda else torch.default_generator.manual_seed)(number)
        yield
