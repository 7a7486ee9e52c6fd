"""A model over a chain of clients: its own forward pass, cut where a hidden state goes from one client to the next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.passage import ChainPass, ClientLostError, Passage, bytes_of
from lola.models.cutting import ModuleChain
from lola.models.depths import Batch, Depths, Loss, loss_of_output
from lola.models.errors import ModelError
from lola.models.running import evaluating
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch


class ModelChain:
    """A model cut into stages, each the neighbouring modules of one client.

    The model's own forward pass runs, so whatever its architecture hands its blocks reaches them; only the hidden state
    between two blocks is taken apart where they are on different clients. The next one computes on a copy of it, and
    backward runs stage by stage on the gradients of these copies.

    Parameters
    ----------
    depths : lola.models.Depths
        A model with its adapters; those that shall be trained are selected, by `select_all` for example.
    client_of_module : (N,) int array_like
        The embedding's client, that of each block from the input on, and the head's: two more than there are blocks.
        A client's modules are neighbours.

    Attributes
    ----------
    clients : tuple of int
        In the order of the stages.
    modules : tuple of range
        Of each stage.

    Raises
    ------
    TypeError, ValueError
        If the clients are not as described.
    lola.models.ModelError
        If the model has an encoder and a decoder: then more than one hidden state would go from client to client.

    Examples
    --------
    >>> import torch, transformers, lola
    >>> config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=8, vocab_size=50)
    >>> depths = lola.models.attach_lora(transformers.GPT2LMHeadModel(config))
    >>> depths.select_all()
    >>> chain = lola.adapters.ModelChain(depths, [7, 7, 2, 0])  # embedding and a block on client 7, a block, the head
    >>> words = torch.arange(8).reshape(2, 4)
    >>> chain.backward({"input_ids": words, "labels": words}).hop_bytes  # gradients now as after loss.backward()
    (512, 512)
    """

    def __init__(self, depths: Depths, client_of_module: ArrayLike) -> None:
        if not isinstance(depths, Depths):
            raise LolaTypeError(
                f"depths must be a Depths, got {type(depths).__name__}; make it of a model by attach_lora"
            )
        clients = np.asarray(client_of_module)
        n_modules = len(depths) + 2
        if clients.shape != (n_modules,) or clients.dtype.kind not in "iu" or (clients < 0).any():
            raise LolaValueError(
                f"client_of_module must name a client, 0 or more, for each of {n_modules} modules (embedding, "
                f"{len(depths)} blocks, head); got {clients.tolist()}"
            )
        if getattr(getattr(depths.model, "config", None), "is_encoder_decoder", False):
            raise ModelError(
                f"{type(depths.model).__name__} has an encoder and a decoder: a chain hands on one hidden state, and "
                "every block of a decoder needs the encoder's too; take a model of one stack of blocks"
            )
        runs = [(client, list(run)) for client, run in groupby(range(n_modules), key=clients.tolist().__getitem__)]
        self.depths = depths
        self.clients = tuple(client for client, _ in runs)
        self.modules = tuple(range(run[0], run[-1] + 1) for _, run in runs)
        if len({*self.clients}) < len(self.clients):
            raise LolaValueError(
                f"a client's modules must be neighbours, got {clients.tolist()}; give each client one run of modules"
            )

    def __repr__(self) -> str:
        stages = ", ".join(f"{run[0]}…{run[-1]} on {at}" for at, run in zip(self.clients, self.modules, strict=True))
        return f"<ModelChain of {type(self.depths.model).__name__}: modules {stages}>"

    def backward(
        self,
        batch: Batch,
        *,
        loss: Loss = loss_of_output,
        lost: Collection[int] = (),
        count_kept: bool = False,
    ) -> ChainPass:
        """Run a batch forward and backward, and add to the parameters' gradients as ``loss.backward()`` would.

        Parameters
        ----------
        batch : mapping of str to torch.Tensor
        loss : callable, optional
            ``loss(model, batch)`` gives a scalar; by default the model's own output has it.
        lost : collection of int, optional
            Clients that drop out once the forward pass is done, before their own backward.
        count_kept : bool
            Count `ChainPass.kept_bytes`, which takes some time in every stage.

        Raises
        ------
        ClientLostError
            If one of the chain's clients is lost. Gradients of the stages behind it have been added to.
        ValueError, lola.models.ModelError
            If the loss depends on nothing that is trained, or the model does not run each block once on one hidden
            state; or if the loss depends on more than the last hidden state, as one of ``output.hidden_states`` does
            that several clients have: gradients have been added to by then.
        """
        with self.depths.lock:
            passage = self._passage(batch)
            with self._cut(passage), passage.counting(self.depths.model) if count_kept else nullcontext():
                passage.begin()
                value = loss(self.depths.model, batch)
                passage.end_forward()
            if not value.requires_grad:
                raise LolaValueError("the loss depends on nothing that is trained; select a depth, or all of them")
            passage.loss = float(value.detach())
            self._return(passage, value, lost)
            return passage.passed()

    def _return(self, passage: Passage, output: torch.Tensor, lost: Collection[int]) -> None:
        """Run backward stage by stage, as far down as anything is trained."""
        gradient: torch.Tensor | None = None
        for stage in reversed(range(len(self.clients))):
            if self.clients[stage] in lost:
                raise ClientLostError(self.clients[stage], passage.passed())
            if not output.requires_grad:
                continue
            passage.begin()
            _backward(output, gradient)
            passage.backward_s[stage] = passage.elapsed_s()
            if stage == 0:
                return
            output, received = passage.hops.pop()
            if not output.requires_grad:
                continue
            gradient = received.grad
            if gradient is None:
                raise ModelError(
                    f"the loss does not depend on what client {self.clients[stage]} was sent; are all blocks run?"
                )
            passage.return_bytes[stage - 1] = bytes_of(gradient)

    def infer(self, batch: Batch) -> tuple[Any, ChainPass]:
        """Run a batch forward in eval mode, and return what the model gives, to the last bit what it gives alone."""
        import torch

        model = self.depths.model
        with self.depths.lock, torch.no_grad(), evaluating(model):
            passage = self._passage(batch)
            with self._cut(passage):
                passage.begin()
                output = model(**batch)
                passage.end_forward()
        if len(self.clients) > 1:
            passage.result_bytes = bytes_of(_logits(output))
        return output, passage.passed()

    def _passage(self, batch: Batch) -> Passage:
        return Passage(len(self.clients), batch, on_cuda=next(self.depths.model.parameters()).is_cuda)

    def _cut(self, passage: Passage) -> AbstractContextManager[None]:
        """Have each hidden state that leaves its client go through `Passage.cross` while the model runs."""
        firsts = {modules[0] for modules in self.modules}

        def cut(module: int, hidden: torch.Tensor, _: object) -> torch.Tensor:
            return passage.cross(hidden) if module in firsts else hidden

        return ModuleChain(self.depths).cut_by(cut)


def _backward(output: torch.Tensor, gradient: torch.Tensor | None) -> None:
    """Run a stage backward, which none behind it may have done."""
    import torch

    try:
        torch.autograd.backward(output, gradient)
    except RuntimeError as error:
        if "through the graph a second time" not in str(error):
            raise
        raise ModelError(
            "the loss depends on more than the last hidden state: one that is computed on the last client's output "
            "alone was wanted, got one that went backward through another client's stage as well; leave hidden_states "
            "out of it, or keep the model on one client"
        ) from error


def _logits(output: Any) -> torch.Tensor:
    """Return what an inference is about, of all that a model gives."""
    import torch

    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"an inference must give logits, named so or first of a tuple, got {type(output).__name__}; take a model "
            "with a head"
        )
    return output
