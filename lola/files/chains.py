"""A chain as a file that can be proven again from itself alone (JSON)."""

import math
from dataclasses import replace
from typing import Any, TextIO

import numpy as np

from lola.chains.chain import Chain
from lola.chains.problem import ChainProblem
from lola.chains.times import ChainTimes, clients_of
from lola.files.clients import clients_from_json, clients_to_json
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
from lola.files.stages import stages_from_json, stages_to_json
from lola.solvers.chain_proofs import ChainPotentials, ChainProof, most_critical
from lola.solvers.checks import FloatArray, expect, shown
from lola.solvers.errors import VerificationError

CHAIN_FORMAT = "lola-chain"
_PROBLEM_KEYS = ("stages", "clients", "objective", "micro_batches", "start", "order", "inference", "energy_weight")
_TIMES = ("forward_s", "backward_s", "hop_s", "return_s")
_CHAIN_KEYS = ("client_of_module", *_TIMES, "ring_s", "latency_s", "objective_s", "lower_bound_s")
_POTENTIAL_KEYS = ("first", "below_s", "critical", "price_s", "index", "own_s", "potential_s")


def save_chain(chain: Chain, problem: ChainProblem, path: StrPath | TextIO) -> None:
    """Write a chain, the problem it answers, the problem's digest and the proof as JSON into a file or a stream.

    Raises
    ------
    VerificationError
        If the chain does not hold for this problem: what is written can be proven again.
    OSError
        If the file cannot be written.
    """
    expect("chain", chain, Chain)
    chain.verify(problem)
    write_json(
        path,
        CHAIN_FORMAT,
        {
            "chain": chain.to_dict(),
            "proof": [_potentials_to_json(each) for each in chain.proof.potentials],
            "digest": problem.digest(),
            "problem": {
                "objective": problem.objective,
                "micro_batches": problem.micro_batches,
                "start": problem.start,
                "order": problem.order,
                "inference": problem.inference,
                "energy_weight": problem.energy_weight,
                "stages": stages_to_json(problem.stages),
                "clients": clients_to_json(problem.clients),
            },
        },
    )


def load_chain(path: StrPath) -> tuple[Chain, ChainProblem]:
    """Read a chain and the problem it answers. Reading proves nothing: call ``chain.verify(problem)``.

    Raises
    ------
    FormatError
        If the file is not a chain; the message names the key and the mend.
    VerificationError
        If the problem in the file is not the one that was solved: its digest differs.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> problem = lola.ChainProblem(stages, lola.Clients(speed=[1], memory_bytes=[1e9], rate_bps=[[0]]))
    >>> lola.save_chain(lola.split(problem), problem, "chain.json")
    >>> chain, problem = lola.load_chain("chain.json")
    >>> chain.verify(problem)
    """
    data = read_json(path, CHAIN_FORMAT)
    check_keys(str(path), data, ("chain", "proof", "digest", "problem"))
    problem = _problem_from_json(f"{path}, problem", table(f"{path}, problem", data["problem"]))
    if not isinstance(data["proof"], list):
        raise FormatError(f"{path}, proof: a list of tables was wanted, got {shown(data['proof'])}")
    proof = ChainProof(
        tuple(_potentials_from_json(f"{path}, proof[{i}]", each, problem) for i, each in enumerate(data["proof"]))
    )
    chain = _chain_from_json(f"{path}, chain", table(f"{path}, chain", data["chain"]), proof, problem)
    if data["digest"] != problem.digest():
        raise VerificationError("digest: the problem in the file is not the one that was solved; it was changed since")
    taken = clients_of(chain.client_of_module)
    if ((taken < 0) | (taken >= problem.n_clients)).any():  # `verify` says so
        return chain, problem
    return replace(chain, name=problem.clients.names_of(taken)), problem


def _potentials_to_json(potentials: ChainPotentials) -> dict[str, Any]:
    """Write potentials; JSON knows no infinity, so null stands for it."""
    return {
        "first": potentials.first,
        "below_s": _with_null(np.array(potentials.below_s)),
        "critical": potentials.critical.tolist(),
        "price_s": potentials.price_s.tolist(),
        "index": potentials.index.tolist(),
        "own_s": _with_null(potentials.own_s),
        "potential_s": _with_null(potentials.potential_s),
    }


def _with_null(seconds: FloatArray) -> Any:
    listed = np.array(seconds, dtype=object)
    listed[np.isinf(seconds)] = None
    return listed.tolist()


def _potentials_from_json(where: str, value: object, problem: ChainProblem) -> ChainPotentials:
    data = table(where, value)
    check_keys(where, data, _POTENTIAL_KEYS)
    first, critical = data["first"], integers(f"{where}, critical", data["critical"])
    most = most_critical(problem.n_modules, problem.n_clients)
    if len(critical) > most:  # before the check makes arrays of all modules and clients for each of their subsets
        raise FormatError(
            f"{where}, critical: at most {most} clients were wanted, which is what the solver counts for "
            f"{problem.n_modules} modules on {problem.n_clients} clients, got {len(critical)}"
        )
    shape, rows = (problem.n_modules + 1, problem.n_clients), data["potential_s"]
    lengths = [len(row) if isinstance(row, list) else None for row in rows] if isinstance(rows, list) else None
    if lengths != [shape[1]] * shape[0]:
        wanted = f"{shape[0]} lists of {shape[1]} numbers were wanted"
        raise FormatError(f"{where}, potential_s: {wanted}, got {shown(rows)}")
    return ChainPotentials(
        first=None if first is None else integer(f"{where}, first", first),
        below_s=float(_seconds(f"{where}, below_s", [data["below_s"]])[0]),
        critical=np.array(critical, dtype=np.int64),
        price_s=np.array(numbers(f"{where}, price_s", data["price_s"]), dtype=np.float64),
        index=np.array(integers(f"{where}, index", data["index"]), dtype=np.int64),
        own_s=_seconds(f"{where}, own_s", data["own_s"]),
        potential_s=_seconds(f"{where}, potential_s", [seconds for row in rows for seconds in row]).reshape(shape),
    )


def _seconds(where: str, value: object) -> FloatArray:
    """Read a list of seconds, null for infinity."""
    if not isinstance(value, list):
        raise FormatError(f"{where}: a list of numbers was wanted, got {shown(value)}")
    return np.array(
        [math.inf if one is None else number(f"{where}[{i}]", one) for i, one in enumerate(value)], np.float64
    )


def _problem_from_json(where: str, data: dict[str, Any]) -> ChainProblem:
    check_keys(where, data, _PROBLEM_KEYS)
    stages = stages_from_json(f"{where}, stages", table(f"{where}, stages", data["stages"]))
    clients = clients_from_json(f"{where}, clients", table(f"{where}, clients", data["clients"]))
    start, order = data["start"], data["order"]
    try:
        return ChainProblem(
            stages,
            clients,
            objective=data["objective"],
            micro_batches=integer(f"{where}, micro_batches", data["micro_batches"]),
            start=None if start is None else integer(f"{where}, start", start),
            order=None if order is None else integers(f"{where}, order", order),
            inference=data["inference"],
            energy_weight=number(f"{where}, energy_weight", data["energy_weight"]),
        )
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def _chain_from_json(where: str, data: dict[str, Any], proof: ChainProof, problem: ChainProblem) -> Chain:
    check_keys(where, data, _CHAIN_KEYS)
    seconds = {name: np.array(numbers(f"{where}, {name}", data[name]), dtype=np.float64) for name in _TIMES}
    split = np.array(integers(f"{where}, client_of_module", data["client_of_module"]), dtype=np.int64)
    if split.size == 0:
        raise FormatError(f"{where}, client_of_module: a client for each module was wanted, got none")
    return Chain(
        client_of_module=split,
        times=ChainTimes(**seconds, ring_s=number(f"{where}, ring_s", data["ring_s"])),
        micro_batches=problem.micro_batches,
        latency_s=number(f"{where}, latency_s", data["latency_s"]),
        objective_s=number(f"{where}, objective_s", data["objective_s"]),
        lower_bound_s=number(f"{where}, lower_bound_s", data["lower_bound_s"]),
        proof=proof,
    )
