"""Plain federated fine-tuning: every device has the whole model and sends its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lola.adapters.answer import Answer, mean_gradients
from lola.adapters.stepping import step
from lola.deft.scheme import FederatedRound, Outcome, Scheme, bits_of
from lola.models.depths import Depths, Loss, loss_of_output
from lola.solvers.errors import LolaTypeError

if TYPE_CHECKING:
    import torch


class PlainScheme(Scheme):
    """Gradients of the whole model: the server steps with their mean over the devices, by the rows of their batches.

    Parameters
    ----------
    depths : lola.models.Depths
        The model with its adapters, from `lola.models.attach_lora`.
    loss : callable, optional
        ``loss(model, batch)`` gives a scalar; by default the model's own output has it.

    Raises
    ------
    TypeError
        If `depths` is none.
    """

    def __init__(self, depths: Depths, *, loss: Loss = loss_of_output) -> None:
        if not isinstance(depths, Depths):
            raise LolaTypeError(
                f"depths must be a Depths, got {type(depths).__name__}; make it of a model by attach_lora"
            )
        self.depths, self.loss = depths, loss

    @property
    def tunables(self) -> Depths:
        """The model's adapters, and its head where that is trained."""
        return self.depths

    @property
    def identity(self) -> tuple[object, ...]:
        """The adapters."""
        return repr(self.depths), self.depths.alpha

    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Average the gradients of the device's batches, by their rows."""
        self.depths.select_all()
        model, loss = self.depths.model, self.loss
        return mean_gradients(model, self.trained(), work.batches(device), lambda batch: loss(model, batch))

    def apply(self, work: FederatedRound, answers: Mapping[int, Answer], optimizer: torch.optim.Optimizer) -> Outcome:
        """Step with the mean gradient, or leave everything as it was where that would not stay finite."""
        mean, loss = work.receive([*answers.values()])
        spoiled = step(optimizer, {"": self.trained()}, {"": mean})
        delivered_bits = self.delivered_bits(work)
        if spoiled:
            refused = (f"the mean of all: {spoiled['']}",)
            return Outcome(float("nan"), (), refused, delivered_bits=delivered_bits)
        return Outcome(loss, tuple(answers), delivered_bits=delivered_bits)

    def without_answers(self, work: FederatedRound) -> Outcome:
        """Leave everything as it was; all who were asked have had what is trained, though."""
        return Outcome(float("nan"), (), delivered_bits=self.delivered_bits(work))

    def delivered_bits(self, work: FederatedRound) -> float:
        """Count what is trained, which each device that is asked begins a round with."""
        return len(work.asked) * bits_of(self.trained().values())

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Return what devices send gradients of, by its name in the model."""
        return self.depths.all_named_parameters()
