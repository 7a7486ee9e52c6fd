"""FlyBoosting: devices that an ensemble of prompts serves badly make new ones for it, as many as the radio carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lola.adapters.answer import Answer
from lola.adapters.shards import ShardedData
from lola.air.uplink import DigitalUplink, PerfectUplink
from lola.channel import Channel
from lola.deft.ensemble import Effectiveness, PromptEnsemble, effectiveness
from lola.deft.prompted import draw_prompt
from lola.deft.scheme import FederatedRound, Outcome, Scheme, bits_of
from lola.deft.tuning import LEARNING_RATE, train_prompt
from lola.solvers.checks import FloatArray, IntArray, positive_number, real_number, shown
from lola.solvers.errors import LolaTypeError, LolaValueError

if TYPE_CHECKING:
    import torch

    from lola.adapters.tunables import Tunables
    from lola.air.uplink import Uplink

_log = logging.getLogger(__name__)
SCHEDULERS = ("exact", "ratio", "score", "channel")


class BoostingScheme(Scheme):
    """Rounds in which devices test an ensemble of prompts, and those selected of the dissatisfied send a new one each.

    A device tests the ensemble on data of its own that is held out: the share of right answers is its score. Where that
    is below the threshold it is a candidate, whose value is the number of its wrong answers, and whose need the hertz
    that carry a prompt in what its training leaves of the round. Whom the scheduler selects trains a prompt on its
    shard, from words drawn from the session's seed, and sends it. The server adds it to the ensemble or, at the limit,
    puts it in place of the prompt without which the fewest answers of all who tested would be wrong. Once all are
    satisfied nobody is asked: time to end the run.

    Parameters
    ----------
    ensemble : PromptEnsemble
        To begin with; it grows.
    held_out : sequence of K int arrays
        Rows of the session's data that each device tests on; none of its shard.
    channel : callable
        ``channel(round, clock_s)`` gives the spectral efficiency of every device, (K,) in bit/s/Hz, such as a
        `lola.channel.RayleighFading`.
    bandwidth_hz : float
        That all uploads of a round share, each on frequencies of its own.
    deadline_s : float
        Seconds of every round; what the session says a device computes, and its upload, must fit.
    threshold : float
        The score at which a device is satisfied.
    scheduler : str
        ``"exact"``: the most wrong answers (`lola.solvers.device_selection`); ``"ratio"``: most wrong answers a hertz
        first, the article's "score and rate"; to compare with, ``"score"``: most wrong answers first; ``"channel"``:
        fewest hertz first; each as long as it fits.
    learning_rate : float
        Of the devices' training, as many steps as the session's local ones.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Wu, Chen and Huang, "Device-Edge Cooperative Fine-Tuning of Foundation Models as a 6G Service", section 5.2. Its
    chain of thought needs a model that generates; these prompts are a classifier's. Senders do not share frequencies,
    so a sum over the air has nothing to sum. The session's uplink is perfect, and a value takes as many bits as its
    dtype has, or digital, and takes the uplink's; the uplink's ratio and band do not count, but `channel` and
    `bandwidth_hz`. A round takes the deadline, and its transmissions from the first device that may send until then.

    A record's ``numbers``: ``prompts`` after the round and, of the test before it, ``satisfied`` and ``candidates``,
    which add up to the participants, ``wrong``, the answers of all candidates, and ``needed_hz`` of those selected.
    """

    def __init__(
        self,
        ensemble: PromptEnsemble,
        held_out: Sequence[ArrayLike],
        channel: Channel,
        *,
        bandwidth_hz: float,
        deadline_s: float,
        threshold: float = 0.8,
        scheduler: str = "exact",
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        if not isinstance(ensemble, PromptEnsemble):
            raise LolaTypeError(f"ensemble must be a lola.deft.PromptEnsemble, got {type(ensemble).__name__}")
        if not callable(channel):
            raise LolaTypeError(
                f"channel must be called with a round and a clock, as a lola.RayleighFading is; got {shown(channel)}"
            )
        if scheduler not in SCHEDULERS:
            raise LolaValueError(f"scheduler must be one of {', '.join(SCHEDULERS)}; got {shown(scheduler)}")
        if not 0 < real_number("threshold", threshold) <= 1:
            raise LolaValueError(f"threshold must be a share of right answers, in (0, 1]; got {threshold}")
        self.ensemble, self.channel, self.scheduler, self.threshold = ensemble, channel, scheduler, threshold
        self.held_out = [np.asarray(rows, dtype=np.int64) for rows in held_out]
        self.bandwidth_hz = positive_number("bandwidth_hz", bandwidth_hz)
        self.deadline_s = positive_number("deadline_s", deadline_s)
        self.learning_rate = positive_number("learning_rate", learning_rate)
        # By device and prompt: a prompt never changes once it is in.
        self._answered: dict[int, dict[torch.Tensor, torch.Tensor]] = {}
        self._prompt_bits = np.inf  # until a session says what takes a prompt to the server
        self._news = 0

    def __repr__(self) -> str:
        return f"<BoostingScheme of {len(self.held_out)} devices, {self.scheduler} scheduler, {self.ensemble!r}>"

    @property
    def tunables(self) -> Tunables:
        """The ensemble."""
        return self.ensemble

    @property
    def identity(self) -> tuple[object, ...]:
        """All that the prompts of a run follow from, beside the session's own."""
        numbers = (self.bandwidth_hz, self.deadline_s, self.threshold, self.learning_rate)
        began = (self.ensemble.limit, [prompt.detach() for prompt in self.ensemble.prompts])
        return (self.scheduler, *numbers, *began, self.held_out, self.channel)

    def begin(self, data: ShardedData, uplink: Uplink) -> int:
        """Return how many devices there are, having checked what they test on, and what they send over.

        Raises
        ------
        TypeError
            If the uplink is neither perfect nor digital.
        ValueError
            If somebody's held-out rows are missing, none of the data's, or in its shard.
        """
        if not isinstance(uplink, PerfectUplink | DigitalUplink):
            raise LolaTypeError(
                "prompts are sent each for itself, so a lola.air.DigitalUplink or PerfectUplink was wanted, got "
                f"{type(uplink).__name__}; take one of these"
            )
        prompt = self.ensemble.prompts[0]
        self._prompt_bits = uplink.bits * prompt.numel() if isinstance(uplink, DigitalUplink) else bits_of([prompt])
        self._news, self._answered = len(self.ensemble), {}
        if len(self.held_out) != len(data.shards):
            raise LolaValueError(
                f"held_out must have rows for each of the {len(data.shards)} devices with a shard, got "
                f"{len(self.held_out)}"
            )
        n_rows = len(next(iter(data.columns.values())))
        for device, (rows, shard) in enumerate(zip(self.held_out, data.shards, strict=True)):
            if not rows.size or rows.min() < 0 or rows.max() >= n_rows:
                raise LolaValueError(f"held_out of device {device} must hold rows in 0…{n_rows - 1}, at least one")
            if (both := np.intersect1d(rows, shard)).size:
                raise LolaValueError(
                    f"device {device} must not test on what it trains on, but {both.size} rows are in both its shard "
                    f"and held_out, such as {both[0]}; take these out of one"
                )
        return len(self.held_out)

    def asked(self, work: FederatedRound) -> Sequence[int]:
        """Let all that take part test the ensemble, and select who shall make a prompt."""
        tests = {int(device): self._tested(work.data, int(device)) for device in work.present}
        without = sum(test.wrong_without for test in tests.values())
        work.noted["least useful"] = np.argsort(without, kind="stable").tolist()
        candidates = np.array([k for k, test in tests.items() if test.score < self.threshold], dtype=np.int64)
        need_hz = self.need_hz(work)[candidates]
        wrong = np.array([tests[k].wrong for k in candidates.tolist()], dtype=np.int64)
        selected = selected_by(self.scheduler, wrong, need_hz, self.bandwidth_hz) if candidates.size else candidates
        if candidates.size and need_hz.min() > self.bandwidth_hz:
            why = f"the least that one needs is {need_hz.min():.6g} Hz, and there are {self.bandwidth_hz:.6g}"
            _log.warning(
                "version %d: no device that is not satisfied can send a prompt by the deadline of %g s; %s",
                *(work.version, self.deadline_s),
                why if np.isfinite(need_hz.min()) else "all of them compute until then, or are in outage",
            )
        work.noted["numbers"] = {
            "prompts": float(len(self.ensemble)),
            "satisfied": float(len(tests) - len(candidates)),
            "candidates": float(len(candidates)),
            "wrong": float(wrong.sum()),
            "needed_hz": float(need_hz[selected].sum()),
        }
        return [int(device) for device in candidates[selected]]

    def need_hz(self, work: FederatedRound) -> FloatArray:
        """Return the hertz that each device needs to send a prompt in time, (K,); inf if it cannot."""
        efficiency = np.asarray(self.channel(work.version, work.clock_s), dtype=np.float64)
        n_devices = len(self.held_out)
        if efficiency.shape != (n_devices,):
            raise LolaValueError(
                f"the channel must give the spectral efficiency of {n_devices} devices, got shape {efficiency.shape}"
            )
        bits_per_hz = efficiency * np.maximum(self.deadline_s - work.compute_s, 0.0)
        need_hz = np.full(n_devices, np.inf)
        np.divide(self._prompt_bits, bits_per_hz, out=need_hz, where=bits_per_hz > 0)
        return need_hz

    def answer(self, work: FederatedRound, device: int) -> Answer:
        """Let a device train a prompt of its own, from words that torch's generator draws."""
        import torch

        classifier, tokens = self.ensemble.classifier, len(self.ensemble.prompts[0])
        first = draw_prompt(classifier.model, tokens=tokens, seed=int(torch.randint(2**63 - 1, ())))
        batches, steps = work.batches(device), work.local_steps
        prompt, loss = train_prompt(classifier, first, batches, steps=steps, learning_rate=self.learning_rate)
        return Answer({"prompt": prompt}, loss, 1.0)

    def apply(self, work: FederatedRound, answers: Mapping[int, Answer], optimizer: torch.optim.Optimizer) -> Outcome:
        """Take in what arrives of the prompts, each sent for itself; the optimizer has nothing to do."""
        arrived = [work.receive([answer])[0]["prompt"] for answer in answers.values()]
        loss = float(np.mean([answer.loss for answer in answers.values()]))
        delivered_bits = self._told(self.ensemble.add(arrived, work.noted["least useful"]))
        numbers = {**work.noted["numbers"], "prompts": float(len(self.ensemble))}
        uplink_s = self.deadline_s - float(work.compute_s[[*answers]].min())
        return Outcome(loss, tuple(answers), (), numbers, delivered_bits, uplink_s)

    def without_answers(self, work: FederatedRound) -> Outcome:
        """Say how the devices' tests were where no prompt came of them."""
        return Outcome(float("nan"), (), (), work.noted["numbers"], self._told(0), 0.0)

    def latency_s(self, slowest_s: float, uplink_s: float) -> float:
        """Return the deadline: whom the scheduler selected has the hertz to be done by then."""
        return self.deadline_s

    def kept(self) -> dict[str, Any]:
        """Return how many prompts there are, and how many of them are news to the devices."""
        return {"prompts": float(len(self.ensemble)), "news": self._news}

    def restore(self, kept: dict[str, Any]) -> None:
        """Make room for as many prompts."""
        self._news, self._answered = int(kept["news"]), {}
        self.ensemble.grow(int(kept["prompts"]))

    def _told(self, news: int) -> float:
        """Count the prompts that every device was sent for its test, and note how many there are to send next."""
        delivered_bits = len(self.held_out) * self._news * bits_of(self.ensemble.prompts[:1])
        self._news = news
        return delivered_bits

    def _tested(self, data: ShardedData, device: int) -> Effectiveness:
        """Let a device test the ensemble, having only those prompts answer that it has not tested before."""
        import torch

        chosen = torch.from_numpy(self.held_out[device])
        rows = {name: column[chosen] for name, column in data.columns.items()}
        before = self._answered.get(device, {})
        answered: dict[torch.Tensor, torch.Tensor] = {
            prompt: before[prompt] if prompt in before else self.ensemble.classifier.probabilities(prompt, rows)
            for prompt in self.ensemble.prompts
        }
        self._answered[device] = answered
        return effectiveness(list(answered.values()), rows["labels"])


def selected_by(scheduler: str, wrong: IntArray, need_hz: FloatArray, bandwidth_hz: float) -> IntArray:
    """Return which candidates a scheduler selects, of so many wrong answers and hertz each, for so many hertz."""
    from lola.solvers import device_selection, greedy_selection

    if scheduler == "exact":
        return device_selection(wrong, need_hz, bandwidth_hz).selected
    priority = {"ratio": wrong / need_hz, "score": wrong, "channel": 1.0 / need_hz}[scheduler]
    return greedy_selection(priority, need_hz, bandwidth_hz)
