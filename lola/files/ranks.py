"""Ranks of blocks as a file that can be proven again from itself alone (JSON)."""

from typing import Any, TextIO

import numpy as np

from lola.files.formats import (
    FormatError,
    StrPath,
    check_keys,
    integer,
    integers,
    number,
    numbers,
    read_json,
    table,
    write_json,
)
from lola.files.importance import importance_from_json, importance_to_json
from lola.files.schedules import problem_from_json, problem_to_json
from lola.problem import Problem
from lola.ranks.importance import Importance
from lola.ranks.plan import RankPlan
from lola.solvers.checks import expect, shown
from lola.solvers.deadline_proof import RankProof

RANKS_FORMAT = "lola-ranks"
_PLAN_KEYS = ("rank", "objective", "upper_bound", "min_rank", "uniform_rank")
_BUDGET_KEYS = ("budget", "price")
_DEADLINE_KEYS = ("deadline_s", "equal_bandwidth", "device_of_block", "bandwidth_hz", "latency_s", "proof")
_PROOF_KEYS = ("split_block", "split_rank", "price", "device_price")


def save_ranks(
    plan: RankPlan, importance: Importance, path: StrPath | TextIO, *, problem: Problem | None = None
) -> None:
    """Write ranks, what they were chosen by, and the proof, as JSON into a file or a stream.

    Parameters
    ----------
    plan : RankPlan
    importance : Importance
    path : path-like or text stream
    problem : Problem, optional
        Of a plan by a deadline.

    Raises
    ------
    VerificationError
        If the plan does not hold for them: what is written can be proven again.
    OSError
        If the file cannot be written.
    """
    expect("plan", plan, RankPlan)
    plan.verify(importance, problem)
    keys = (*_PLAN_KEYS, *(_BUDGET_KEYS if problem is None else _DEADLINE_KEYS[:-1]))
    values = {key: getattr(plan, key) for key in keys}
    said = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}
    if plan.proof is not None:
        said["proof"] = _proof_to_json(plan.proof)
    data = {"plan": said, "importance": importance_to_json(importance)}
    write_json(path, RANKS_FORMAT, data | ({} if problem is None else {"problem": problem_to_json(problem)}))


def load_ranks(path: StrPath) -> tuple[RankPlan, Importance, Problem | None]:
    """Read ranks and what they were chosen by. Reading proves nothing: call ``plan.verify(importance, problem)``.

    Raises
    ------
    FormatError
        If the file holds no such plan; the message names the key and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> importance = lola.Importance([[9.0, 4.0], [3.0, 1.0]], cost=[100, 100])
    >>> lola.save_ranks(lola.allocate_ranks(importance, budget=300), importance, "ranks.json")
    >>> plan, importance, problem = lola.load_ranks("ranks.json")
    >>> plan.verify(importance, problem)
    """
    data = read_json(path, RANKS_FORMAT)
    check_keys(str(path), data, ("plan", "importance"), ("problem",))
    importance = importance_from_json(f"{path}, importance", table(f"{path}, importance", data["importance"]))
    problem = None
    if data.get("problem") is not None:
        problem = problem_from_json(f"{path}, problem", table(f"{path}, problem", data["problem"]))
    where, said = f"{path}, plan", table(f"{path}, plan", data["plan"])
    check_keys(where, said, (*_PLAN_KEYS, *(_BUDGET_KEYS if problem is None else _DEADLINE_KEYS)))
    rank = np.array(integers(f"{where}, rank", said["rank"]), dtype=np.int64)
    alike = integer(f"{where}, uniform_rank", said["uniform_rank"])
    most = importance.max_rank
    if rank.shape != (importance.n_blocks,) or not all(0 <= one <= most for one in (*rank.tolist(), alike)):
        raise FormatError(
            f"{where}: rank must have {importance.n_blocks} entries between 0 and {most}, as the importance has, and "
            f"uniform_rank be such a rank; got {shown(said['rank'])} and {alike}"
        )
    limits = _budget(where, said) if problem is None else _deadline(where, said)
    bound, least = number(f"{where}, upper_bound", said["upper_bound"]), integer(f"{where}, min_rank", said["min_rank"])
    plan = RankPlan.of_ranks(importance, rank, bound, least, alike, **limits)
    claimed = number(f"{where}, objective", said["objective"])
    if claimed != plan.objective:
        raise FormatError(
            f"{where}, objective: is {claimed!r}, but the ranks are worth {plan.objective!r}; was it edited?"
        )
    if bound < plan.objective:
        raise FormatError(
            f"{where}, upper_bound: is {bound!r}, below what the ranks are worth, {plan.objective!r}; was it edited?"
        )
    return plan, importance, problem


def _budget(where: str, said: dict[str, Any]) -> dict[str, Any]:
    return {key: number(f"{where}, {key}", said[key]) for key in _BUDGET_KEYS}


def _deadline(where: str, said: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(said["equal_bandwidth"], bool):
        raise FormatError(f"{where}, equal_bandwidth: true or false was wanted, got {shown(said['equal_bandwidth'])}")
    return {
        "deadline_s": number(f"{where}, deadline_s", said["deadline_s"]),
        "equal_bandwidth": said["equal_bandwidth"],
        "device_of_block": np.array(integers(f"{where}, device_of_block", said["device_of_block"]), dtype=np.int64),
        "bandwidth_hz": np.array(numbers(f"{where}, bandwidth_hz", said["bandwidth_hz"]), dtype=np.float64),
        "latency_s": number(f"{where}, latency_s", said["latency_s"]),
        "proof": _proof_from_json(f"{where}, proof", table(f"{where}, proof", said["proof"])),
    }


def _proof_to_json(proof: RankProof) -> dict[str, Any]:
    """Write a tree; null stands for the price of infinity."""
    return {
        "split_block": proof.split_block.tolist(),
        "split_rank": proof.split_rank.tolist(),
        "price": [None if price == np.inf else price for price in proof.price.tolist()],
        "device_price": proof.device_price.tolist(),
    }


def _proof_from_json(where: str, data: dict[str, Any]) -> RankProof:
    check_keys(where, data, _PROOF_KEYS)
    prices, rows = data["price"], data["device_price"]
    if not isinstance(prices, list) or not isinstance(rows, list) or len(prices) != len(rows):
        raise FormatError(f"{where}: price and device_price must be lists of one length, an entry a node")
    finite = numbers(f"{where}, price", [0.0 if price is None else price for price in prices])
    devices = [numbers(f"{where}, device_price[{i}]", row) for i, row in enumerate(rows)]
    if len({len(row) for row in devices}) != 1:
        raise FormatError(f"{where}, device_price: rows of one length were wanted, one a node; is the file cut short?")
    return RankProof(
        split_block=np.array(integers(f"{where}, split_block", data["split_block"]), dtype=np.int64),
        split_rank=np.array(integers(f"{where}, split_rank", data["split_rank"]), dtype=np.int64),
        price=np.array([np.inf if price is None else own for price, own in zip(prices, finite, strict=True)]),
        device_price=np.array(devices, dtype=np.float64),
    )
