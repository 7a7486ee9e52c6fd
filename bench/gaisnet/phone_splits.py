"""lola's split against rules of thumb over random clusters of phones: shares by speed, by memory, and equal ones."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from page import claim

import lola
from lola.chains.clients import spread
from lola.files.stages import builtin_stages
from lola.solvers import InfeasibleError

SEED = 0
CLUSTERS, PHONES, SIDE_M = 1000, 6, 20.0
OFFERED, LITTLE = 0.5, 0.12  # of its memory, by each phone
QUESTIONS: dict[str, dict[str, Any]] = {
    "training, a batch": {"objective": "sum"},
    "training, 8 micro-batches": {"objective": "pipeline", "micro_batches": 8},
    "inference": {"objective": "sum", "inference": True},
    "inference, little memory": {"objective": "sum", "inference": True},
}
RULES = ("speed", "memory", "equal")
CHOSEN = "best order of lola's phones"
ROUNDING = 1e-9
QUANTILES = np.linspace(0.0, 1.0, 101)

Record = dict[str, Any]


def run(fleet: str) -> Record:
    """Split over every cluster by each rule, in every order and in the one drawn, and by lola."""
    speed, memory = phones(Path(fleet))
    rng, stages = np.random.default_rng(SEED), builtin_stages()
    asked: dict[str, dict[str, list[float]]] = {question: {} for question in QUESTIONS}
    left_out, clusters = 0, 0
    while clusters < CLUSTERS:
        members = rng.choice(len(speed), PHONES, replace=False)
        places = spread(PHONES, SIDE_M, rng)
        try:
            compared = {
                question: compare(question_of(question, stages, places, speed[members], memory[members]))
                for question in QUESTIONS
            }
        except InfeasibleError:
            left_out += 1
            continue
        clusters += 1
        for question, values in compared.items():
            for name, value in values.items():
                asked[question].setdefault(name, []).append(value)
    return {
        "clusters": CLUSTERS,
        "left_out": left_out,
        "phones": PHONES,
        "of": len(speed),
        "side_m": SIDE_M,
        "offered": OFFERED,
        "little": LITTLE,
        "profile": str(stages.provenance),
        "questions": {question: summary(values) for question, values in asked.items()},
    }


def question_of(
    question: str, stages: lola.StageProfile, places: np.ndarray, speed: np.ndarray, memory: np.ndarray
) -> lola.ChainProblem:
    """Put a question to phones of these speeds and memories, each of which offers a part."""
    offered = LITTLE if question.endswith("little memory") else OFFERED
    clients = lola.Clients.from_positions(places, speed=speed, memory_bytes=offered * memory)
    return lola.ChainProblem(stages, clients, **QUESTIONS[question])


def phones(fleet: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read speeds and memories; names may repeat, for phones are sold with different memories."""
    with fleet.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return np.array([float(row["speed"]) for row in rows]), np.array([float(row["memory_bytes"]) for row in rows])


def compare(problem: lola.ChainProblem) -> dict[str, float]:
    """Return how many times as long each rule takes as lola; inf beyond memory.

    In its best order of all phones and of those that lola takes, and in the drawn order, against lola's in that one.
    """
    orders = np.array(list(permutations(range(problem.n_clients))))  # the first is the drawn one
    drawn = replace(problem, order=orders[0].tolist())
    free, fixed = lola.split(problem), lola.split(drawn)
    for chain, asked in ((free, problem), (fixed, drawn)):
        chain.verify(asked)
    claim(max(free.gap, fixed.gap) < ROUNDING, "every chain over so few phones is proven optimal")
    values = {"used": float(len(free.stages)), "fixed order": fixed.objective_s / free.objective_s}
    chosen = np.array(list(permutations(client for client, _ in free.stages)))
    for rule in RULES:
        within = seconds_within_memory(problem, rule, orders)
        values[f"{rule}, best order"] = float(within.min() / free.objective_s)
        values[f"{rule}, drawn order"] = float(within[0] / fixed.objective_s)
        values[f"{rule}, {CHOSEN}"] = float(seconds_within_memory(problem, rule, chosen).min() / free.objective_s)
    return values


def seconds_within_memory(problem: lola.ChainProblem, rule: str, orders: np.ndarray) -> np.ndarray:
    """Return the objective of a rule in each order, in seconds; inf beyond memory."""
    seconds, fits = by_rule(problem, dealt(problem, rule, orders))
    return np.where(fits, seconds, np.inf)


def dealt(problem: lola.ChainProblem, rule: str, orders: np.ndarray) -> np.ndarray:
    """Deal the blocks in proportion, for each order of some clients, (orders, N): the client of each module.

    The embedding goes with the first block and the head with the last; who is due less than half a block gets none.
    """
    clients, n_blocks = problem.clients, problem.n_modules - 2
    weight = {"speed": clients.speed, "memory": clients.memory_bytes, "equal": np.ones(clients.n_clients)}[rule]
    shares = np.cumsum(weight[orders], axis=1)
    ends = np.rint(n_blocks * shares / shares[:, -1:])
    place = (np.arange(n_blocks)[None, :, None] >= ends[:, None, :]).sum(axis=2)
    of_block = np.take_along_axis(orders, place, axis=1)
    return np.concatenate([of_block[:, :1], of_block, of_block[:, -1:]], axis=1)


def by_rule(problem: lola.ChainProblem, client_of_module: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the objective of each row of clients, in seconds, and whether everybody has the memory."""
    costs = problem.solver_arguments()
    rate = np.where(np.eye(problem.n_clients, dtype=bool), np.inf, costs["rate_bps"])  # nothing is sent to oneself
    has = client_of_module[:, :, None] == np.arange(problem.n_clients)
    compute = np.einsum("pnk,n->pk", has, costs["work_s"]) / costs["speed"]
    here, there = client_of_module[:, :-1], client_of_module[:, 1:]
    hops = costs["hop_bits"] / rate[here, there] + costs["return_bits"] / rate[there, here]
    ring = costs["ring_bits"] / rate[client_of_module[:, -1:], client_of_module[:, :1]]
    stations = np.concatenate([compute, hops, ring], axis=1)
    seconds = stations.sum(axis=1) + (problem.micro_batches - 1) * stations.max(axis=1)
    begin, end = has.argmax(axis=1), problem.n_modules - 1 - has[:, ::-1].argmax(axis=1)
    needed = np.where(has.any(axis=1), problem.stage_bytes[begin, end], 0.0)
    return seconds, (needed <= costs["client_memory_bytes"]).all(axis=1)


def summary(values: dict[str, list[float]]) -> Record:
    """Return the quantiles of what fits, and the share of clusters that do not."""
    used = np.array(values.pop("used"))
    ratios = {}
    for name, ratio in values.items():
        fit = np.isfinite(ratio)
        quantiles = np.quantile(np.array(ratio)[fit], QUANTILES).round(4).tolist() if fit.any() else []
        ratios[name] = {"beyond_memory": float(1 - fit.mean()), "quantiles": quantiles}
    return {"mean_used": float(used.mean()), "alone": float((used == 1).mean()), "ratios": ratios}
