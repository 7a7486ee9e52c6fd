"""Linear layers that the radio computes: precoder, channel and equaliser together are the layer's matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lola.air.uplink import check_snr_db
from lola.channel import from_decibel
from lola.solvers.checks import FloatArray, generator, positive_integer, positive_number, real_or_complex, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.solvers.checks import ComplexArray


def rayleigh_channel(n_receive: int, n_transmit: int, seed: int | np.random.Generator | None = None) -> ComplexArray:
    """Draw the channel between antennas under Rayleigh fading: complex normal entries of mean power 1.

    Parameters
    ----------
    n_receive, n_transmit : int
        Antennas.
    seed : int or numpy.random.Generator, optional
        An integer gives the same draw every time.

    Returns
    -------
    (n_receive, n_transmit) complex128 array

    Examples
    --------
    >>> from lola.air import rayleigh_channel
    >>> channel = rayleigh_channel(4, 2, seed=0)
    >>> channel.shape, channel.dtype.name
    ((4, 2), 'complex128')
    """
    shape = positive_integer("n_receive", n_receive), positive_integer("n_transmit", n_transmit)
    real, imaginary = generator("seed", seed).standard_normal((2, *shape))
    return np.asarray((real + 1j * imaginary) / np.sqrt(2.0))


@dataclass(frozen=True, eq=False)
class _Path:
    """One way through the air: what is sent for a vector, what becomes of it, and how the product is read from that."""

    matrix: FloatArray  # (m, n): W
    precoder: FloatArray  # (q, n): F
    channel: FloatArray  # (p, q): H of all uses of the channel, one after the other
    equaliser: FloatArray  # (m, p): G
    uses: int
    noise_power: float  # of each received real number
    mse: float  # of a value of the product, where those of the vector are uncorrelated, of power 1
    _tensors: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = field(default_factory=dict)

    def transmit(self, vectors: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        """Send vectors (…, n), and return their products with the matrix as they arrive, (…, m)."""
        import torch

        values = vectors.detach()
        values = values if values.dtype == torch.float64 else values.float()
        nothing = (*vectors.shape[:-1], self.matrix.shape[0])
        largest = float(values.abs().max()) if values.numel() else 0.0
        if not math.isfinite(largest):
            return vectors.new_full(nothing, math.nan)
        if largest == 0:
            return vectors.new_zeros(nothing)
        unit = _power_of_two(largest, values.dtype)
        values = values / unit  # exact; the squares of very large or small values would not fit their dtype
        precoder, channel, equaliser, _ = self._on(values)
        signal = values @ precoder.T
        spread = self._spread(values, signal)
        shape, where = (*vectors.shape[:-1], self.channel.shape[0]), values.device if noise is None else noise.device
        drawn = torch.randn(shape, generator=noise, dtype=values.dtype, device=where).to(values.device)
        heard = (signal / spread) @ channel.T + math.sqrt(self.noise_power) * drawn
        return (unit * (spread * (heard @ equaliser.T))).to(vectors.dtype)

    def expected_squared_error(self, vectors: torch.Tensor) -> float:
        """Return that of a value of these vectors' products."""
        values = vectors.detach().double()
        precoder, channel, equaliser, matrix = self._on(values)
        signal = values @ precoder.T
        spread = self._spread(values, signal)
        bias = signal @ channel.T @ equaliser.T - values @ matrix.T
        noise = spread**2 * self.noise_power * float(equaliser.square().sum()) / equaliser.shape[0]
        return float(bias.square().mean()) + noise

    def _spread(self, values: torch.Tensor, signal: torch.Tensor) -> float:
        """Return what a message is divided by: its root mean square, or more where its power would exceed 1 a use."""
        power = signal.square().sum(dim=-1).mean() / self.uses
        return math.sqrt(max(float(values.square().mean()), float(power)))

    def _on(self, like: torch.Tensor) -> list[torch.Tensor]:
        """Return the matrices F, H, G and W where a tensor is, of its dtype."""
        import torch

        key = like.dtype, like.device
        if key not in self._tensors:
            arrays = self.precoder, self.channel, self.equaliser, self.matrix
            self._tensors[key] = [torch.tensor(array, device=like.device, dtype=like.dtype) for array in arrays]
        return self._tensors[key]


def _path(matrix: FloatArray, channel: FloatArray, noise_power: float) -> _Path:
    """Design one way for a matrix, with as few uses of the channel as its rank needs."""
    from lola.solvers import air_product

    rank = int(np.linalg.matrix_rank(channel))
    if rank == 0:
        raise LolaValueError("channel must carry something, got zeros; draw one with lola.air.rayleigh_channel")
    uses = max(1, math.ceil(int(np.linalg.matrix_rank(matrix)) / rank))
    whole = np.asarray(np.kron(np.eye(uses), channel), np.float64)
    plan = air_product(matrix, whole, float(uses), noise_power)
    precoder, equaliser = np.asarray(plan.precoder, np.float64), np.asarray(plan.equaliser, np.float64)
    return _Path(matrix, precoder, whole, equaliser, uses, noise_power, plan.mse / matrix.shape[0])


class OverTheAirLinear:
    """A product with a matrix that the radio computes: vectors go one way, their gradients the other.

    Called with a tensor (…, n) on the device, it gives about ``x Wᵀ``, (…, m), at the server: ``G(HFx + n)``, by
    `lola.solvers.air_product`. Backward sends the gradient from the server through the transposed channel, with a
    precoder and an equaliser for Wᵀ and noise of its own, so that the device gets about ``Wᵀg``.

    Parameters
    ----------
    matrix : (m, n) array_like or torch.Tensor
        W, which stays as it is: precoders and equalisers are made for it.
    channel : (r, t) array_like
        H, complex or real, from the device's t antennas to the server's r, the same in every use; see
        `rayleigh_channel`.
    snr_db : float
        Power of a symbol, over all antennas of the sender, over the complex noise's of one antenna of the receiver.
    bandwidth_hz : float
        Symbols a second.
    noise : torch.Generator, optional
        What noise is drawn from. Left out, torch's own, as dropout: in a session it follows from the session's seed,
        and one of its own is refused, for a run that goes on would not draw the same.

    Attributes
    ----------
    forward_symbols, backward_symbols : int
        Uses of the channel that a vector, and a gradient, takes: each carries two real numbers on every pair of
        antennas, the real and the imaginary part, so 2·rank H of the matrix's rank.
    channel : (r, t) float64 or complex128 array
        As it was given.
    symbols : int
        Sent so far, both ways.
    mse : float
        Expected squared error of a value of the product, where those of the vector are uncorrelated, of power 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    What is sent at once, a message, is divided by its root mean square, or by more where its power would exceed that of
    a symbol; that number travels beside, and is not counted. So the error scales with the message, and where a value is
    not finite, nothing of the message arrives: it is NaN, as the loss is then, and the gradients. Section 4.2 of Wu,
    Chen and Huang, "Device-Edge Cooperative Fine-Tuning of Foundation Models as a 6G Service".

    Examples
    --------
    >>> import torch
    >>> from lola.air import OverTheAirLinear, rayleigh_channel
    >>> radio = OverTheAirLinear([[1.0, 2.0], [0.0, 3.0]], rayleigh_channel(4, 4, seed=0), snr_db=60.0)
    >>> radio(torch.tensor([[1.0, 1.0]])).round(decimals=1).tolist(), radio.symbols
    ([[3.0, 3.0]], 1)
    """

    def __init__(
        self,
        matrix: ArrayLike | torch.Tensor,
        channel: ArrayLike,
        *,
        snr_db: float = 20.0,
        bandwidth_hz: float = 20e6,
        noise: torch.Generator | None = None,
    ) -> None:
        import torch

        if isinstance(matrix, torch.Tensor):
            matrix = matrix.detach().cpu().double().numpy().copy()
        weights, complex_channel = real_or_complex("matrix", matrix, 2), real_or_complex("channel", channel, 2)
        for name, array in (("matrix", weights), ("channel", complex_channel)):
            if not array.size or not np.isfinite(array).all():
                raise LolaValueError(f"{name} must hold finite numbers, at least one; got shape {array.shape}")
        if np.iscomplexobj(weights):
            raise LolaTypeError("matrix must be real, as what torch multiplies here is; got complex numbers")
        check_snr_db(snr_db)
        self.snr_db, self.bandwidth_hz = float(snr_db), positive_number("bandwidth_hz", bandwidth_hz)
        if noise is not None and not isinstance(noise, torch.Generator):
            raise LolaTypeError(
                f"noise must be a torch.Generator, such as torch.Generator().manual_seed(0), got {shown(noise)}; leave "
                "it out to draw from torch's own"
            )
        self.noise, self.symbols, self.channel = noise, 0, complex_channel
        noise_power = float(from_decibel(-self.snr_db)) / 2  # of the real part, and of the imaginary one
        self._there = _path(np.asarray(weights, np.float64), _as_real(complex_channel), noise_power)
        self._back = _path(np.asarray(weights.T, np.float64), _as_real(complex_channel.T), noise_power)
        self.forward_symbols, self.backward_symbols, self.mse = self._there.uses, self._back.uses, self._there.mse

    def __repr__(self) -> str:
        m, n = self._there.matrix.shape
        return f"<OverTheAirLinear of {n} to {m} at {self.snr_db:g} dB, {self.forward_symbols} symbols a vector>"

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Send vectors, (…, n), and return what the server has of their products, (…, m)."""
        import torch

        from lola.air.exchange import Exchange

        if not isinstance(vectors, torch.Tensor):
            raise LolaTypeError(f"vectors must be a torch.Tensor, got {type(vectors).__name__}; make one of it")
        if vectors.shape[-1:] != self._there.matrix.shape[1:] or not vectors.is_floating_point():
            raise LolaValueError(
                f"vectors must be real, of {self._there.matrix.shape[1]} values each, as many as the matrix has "
                f"columns; got {vectors.dtype} of shape {tuple(vectors.shape)}"
            )
        product: torch.Tensor = Exchange.apply(vectors, self._send, self._return)  # type: ignore[no-untyped-call]
        return product

    @property
    def latency_s(self) -> float:
        """Seconds of all symbols sent so far."""
        return self.symbols / self.bandwidth_hz

    def expected_squared_error(self, vectors: torch.Tensor) -> float:
        """Return the expected squared error of a value of what arrives of these vectors: over the noise, and exact."""
        return self._there.expected_squared_error(vectors)

    def expected_squared_error_back(self, gradients: torch.Tensor) -> float:
        """Return the same for gradients that are sent back, (…, m)."""
        return self._back.expected_squared_error(gradients)

    def _send(self, vectors: torch.Tensor) -> torch.Tensor:
        self.symbols += self.forward_symbols * (vectors.numel() // vectors.shape[-1])
        return self._there.transmit(vectors, self.noise)

    def _return(self, gradients: torch.Tensor) -> torch.Tensor:
        self.symbols += self.backward_symbols * (gradients.numel() // gradients.shape[-1])
        return self._back.transmit(gradients, self.noise)


def _power_of_two(size: float, dtype: torch.dtype) -> float:
    """Return about `size`, so that dividing by it, or by its reciprocal, rounds nothing."""
    import torch

    most = -math.frexp(torch.finfo(dtype).tiny)[1]
    return math.ldexp(1.0, min(max(math.frexp(size)[1], -most), most))


def _as_real(channel: FloatArray | ComplexArray) -> FloatArray:
    """Write a complex channel as one of real numbers: two for each antenna, real and imaginary part."""
    real, imaginary = np.real(channel), np.imag(channel)
    return np.block([[real, -imaginary], [imaginary, real]])
