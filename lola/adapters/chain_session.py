"""Fine-tuning over chains of clients, several clusters at a time: hybrid federated split learning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lola.adapters.answer import Answer, average, not_finite
from lola.adapters.chain import ModelChain
from lola.adapters.clusters import Cluster, PlannedChain
from lola.adapters.identity import chain_identity
from lola.adapters.passage import ClientLostError
from lola.adapters.record import ChainRecord
from lola.adapters.rounds import Evaluate, Session, expect_held
from lola.adapters.setting import ChainSetting, Purpose
from lola.adapters.shards import ShardedData
from lola.adapters.stepping import step
from lola.air.uplink import PerfectUplink, Uplink, expect_uplink
from lola.files.formats import StrPath
from lola.models.depths import Loss, loss_of_output
from lola.profiling.memory import weight_bytes
from lola.solvers.checks import IntArray, positive_integer
from lola.solvers.errors import InfeasibleError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.models import Depths

_log = logging.getLogger(__name__)
Plan = Callable[[int, IntArray], Sequence[PlannedChain]]


class ChainSession(Session[ChainRecord]):
    """Rounds of fine-tuning over chains: plan the clusters, let each compute, average, tick the clock.

    Every cluster is simulated on this machine, one after the other, with the session's own model cut into the stages of
    its chain. A cluster that loses a client in the middle of a batch answers nothing in that round; the others, and
    what the server has, are as if it had not been planned. The next round is planned without the client.

    Parameters
    ----------
    depths : lola.models.Depths
        The model with its adapters, from `lola.models.attach_lora`.
    optimizer : torch.optim.Optimizer
        Over ``depths.all_parameters()``: the server's, or, where tunable parameters are averaged, a model of what every
        cluster begins each round with, without any state.
    plan : callable
        ``plan(version, clients)`` gives the chain of each cluster, for the clients of these numbers, in rising order: a
        `PlannedChain` each, such as a `ClusterPlan`, on clients that no other chain has. It raises `InfeasibleError`
        where they cannot hold the model.
    data : ShardedData
        The shards of those clients that a chain can begin with.
    starts : sequence of int, optional
        The client of each shard; left out, client 0 has the first, client 1 the second …
    n_clients : int, optional
        How many clients there are; left out, as many as shards.
    setting : ChainSetting, optional
    evaluate : callable, optional
        ``evaluate()`` gives scores by name; called without gradients and in eval mode.
    loss : callable, optional
        See `ModelChain.backward`.
    uplink : lola.air.Uplink, optional
        Brings the server the sum of what the clusters answer, weighed by their rows: one transmission a round, whose
        seconds count, for a plan's are of batches alone. Left out, it is the sum itself, and takes no time.
    folder : path-like, optional
        As a `CooperativeSession` has one: checkpoints, ``metrics.csv``, and runs that go on to the same bits.

    Raises
    ------
    TypeError, ValueError, FormatError
        If an argument, or a checkpoint found in the folder, does not fit, or none there is intact.
    OSError
        If the folder cannot be used; BlockingIOError if another session is at work there.
    """

    _told_by = "setting, plan, starts, uplink, data or frozen weights"

    def __init__(
        self,
        depths: Depths,
        optimizer: torch.optim.Optimizer,
        plan: Plan,
        data: ShardedData,
        *,
        starts: Sequence[int] | None = None,
        n_clients: int | None = None,
        setting: ChainSetting | None = None,
        evaluate: Evaluate | None = None,
        loss: Loss = loss_of_output,
        uplink: Uplink | None = None,
        folder: StrPath | None = None,
    ) -> None:
        expect_uplink(uplink)
        self.plan, self.data, self.loss, self.uplink = plan, data, loss, uplink
        self.setting = ChainSetting() if setting is None else setting
        self.starts = tuple(range(len(data.shards)) if starts is None else starts)
        self.n_clients = len(data.shards) if n_clients is None else positive_integer("n_clients", n_clients)
        if len(self.starts) != len(data.shards) or len({*self.starts}) < len(self.starts):
            raise LolaValueError(
                f"starts must name another client for each of {len(data.shards)} shards, got {list(self.starts)}"
            )
        if not all(0 <= client < self.n_clients for client in self.starts):
            raise LolaValueError(
                f"starts must name clients in 0…{self.n_clients - 1}, got {list(self.starts)}; give n_clients, "
                "counting those without data"
            )
        expect_held(depths, optimizer)
        self.depths = depths
        super().__init__(depths, optimizer, self.setting, evaluate, folder)
        self._go_on(
            lambda: chain_identity(plan, self.starts, self.n_clients, self.setting, depths, data, uplink), ChainRecord
        )

    def __repr__(self) -> str:
        where = "" if self.folder is None else f", in {str(self.folder)!r}"
        return (
            f"<ChainSession of {self.n_clients} clients, {len(self.starts)} of them with data, averaging "
            f"{self.setting.averaging}: {self.version} rounds, {self.clock_s:.6g} s simulated{where}>"
        )

    def _state(self) -> dict[str, Any]:
        return {"scheme": "chains"}

    def _round(self) -> ChainRecord:
        plans, chains, present = self._planned()
        failing = {*np.flatnonzero(self.setting.failing(self.version, self.n_clients)).tolist()}
        clusters = [Cluster(chain, self.loss, failing) for chain in chains]
        answers: list[Answer] = []
        lost: list[int] = []
        refused: list[str] = []
        answered = 0
        with self.depths.lock:
            self.depths.select_all()
            for cluster in clusters:
                start = cluster.chain.clients[0]
                try:
                    answer = self._answer(cluster)
                except ClientLostError:
                    lost += failing.intersection(cluster.chain.clients)
                    continue
                answered += 1
                if answer.refusal:
                    refused.append(f"the cluster of client {start}: {answer.refusal}")
                else:
                    answers.append(answer)
            loss, upload_s, why = self._apply(answers)
        if why:
            refused.append(why)
            answers = []
        latency_s = self.setting.local_steps * max(plan.latency_s for plan in plans) + upload_s
        bound_s = self.setting.local_steps * float(np.fmax.reduce([plan.lower_bound_s for plan in plans])) + upload_s
        passes = [passed for cluster in clusters for passed in cluster.passes]
        tunable = sum(p.numel() * p.element_size() for p in self.depths.all_parameters())
        return ChainRecord(
            version=self.version + 1,
            clock_s=self.clock_s + latency_s,
            latency_s=latency_s,
            lower_bound_s=bound_s,
            loss=loss,
            participants=len(present),
            clusters=len(clusters),
            applied=len(answers),
            forward_bytes=sum(sum(passed.hop_bytes) for passed in passes),
            return_bytes=sum(sum(passed.return_bytes) for passed in passes),
            beside_bytes=sum(passed.beside_bytes for passed in passes),
            delivered_bytes=tunable * len(clusters),
            uploaded_bytes=tunable * answered,
            full_delivery_bytes=weight_bytes(self.depths.model) * len(clusters),
            refused="; ".join(refused),
            client_of_module=tuple(tuple(map(int, plan.client_of_module)) for plan in plans),
            lost_clients=tuple(sorted(lost)),
        )

    def _answer(self, cluster: Cluster) -> Answer:
        """Let a cluster compute on its start's data."""
        start = cluster.chain.clients[0]
        shard = self.starts.index(start)
        batches, steps = self.data.batches(shard, self.version), self.setting.local_steps
        # Dropout must not depend on what else this process has computed, nor change what it computes later.
        with self._seeded(Purpose.DROPOUT, start):
            if self.setting.averaging == "gradients":
                return cluster.mean_gradients(batches, steps)
            return cluster.step_tunables(batches, steps, self.optimizer, len(self.data.shards[shard]))

    def _apply(self, answers: Sequence[Answer]) -> tuple[float, float, str]:
        """Step with the mean gradient, or take over the mean parameters.

        Return the mean loss, and the seconds that the upload took; or say why not.
        """
        import torch

        if not answers:
            return float("nan"), 0.0, ""
        uplink = PerfectUplink() if self.uplink is None else self.uplink
        received, loss = average(answers, uplink, self.setting.rng(self.version, Purpose.UPLINK))
        tunables = self.depths.all_named_parameters()
        if self.setting.averaging == "gradients":
            spoiled = step(self.optimizer, {"": tunables}, {"": received.tensors})
            if spoiled:
                return float("nan"), received.latency_s, f"the mean of all: {spoiled['']}"
            return loss, received.latency_s, ""
        if why := not_finite(received.tensors):
            return float("nan"), received.latency_s, f"the mean of all: {why}"
        with torch.no_grad():
            for name, parameter in tunables.items():
                parameter.copy_(received.tensors[name])
        return loss, received.latency_s, ""

    def _planned(self) -> tuple[Sequence[PlannedChain], list[ModelChain], IntArray]:
        """Plan with the clients that take part, or with everybody where these cannot hold the model."""
        everybody = np.arange(self.n_clients)
        present = self.setting.taking_part(self.version, self.n_clients)
        lost = self.records[-1].lost_clients if self.records else ()
        free = everybody[~np.isin(everybody, lost)]
        for some in (free[present[free]], free):
            if len(some) < self.n_clients and np.isin(self.starts, some).any():
                try:
                    return self._checked(some)
                except InfeasibleError:
                    continue
        if lost:
            _log.warning("version %d: the clients but %s do not suffice; they are called in again", self.version, lost)
        return self._checked(everybody)

    def _checked(self, present: IntArray) -> tuple[Sequence[PlannedChain], list[ModelChain], IntArray]:
        """Plan with these clients, and refuse a plan that does not fit them."""
        plans = list(self.plan(self.version, present))
        chains = [ModelChain(self.depths, plan.client_of_module) for plan in plans]
        if not chains:
            raise LolaValueError("plan must give a chain at least, got none; raise InfeasibleError where there is none")
        used = [client for chain in chains for client in chain.clients]
        if len({*used}) < len(used) or not {*used} <= {*present.tolist()}:
            raise LolaValueError(
                f"plan must put each of the clients it was given, {present.tolist()}, into one chain at most; got "
                f"{[chain.clients for chain in chains]}"
            )
        for chain in chains:
            if chain.clients[0] not in self.starts:
                raise LolaValueError(
                    f"a chain must begin with a client that has data, one of {list(self.starts)}; got "
                    f"{chain.clients[0]}"
                )
        return plans, chains, present
