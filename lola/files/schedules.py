"""A schedule as a file that can be proven again from itself alone."""

from dataclasses import fields
from typing import Any

import numpy as np

from lola.files.formats import (
    FormatError,
    StrPath,
    check_keys,
    expect,
    integer,
    number,
    numbers,
    read_json,
    table,
    write_json,
)
from lola.files.problems import profile_from_json, profile_to_json
from lola.fleet import Fleet
from lola.problem import Problem
from lola.solution import HallProof, MultiplierProof, PriceProof, Proof, Schedule
from lola.solvers.checks import shown
from lola.verification import VerificationError

_FORMAT = "lola-schedule"
_FLEET_KEYS = ("name", "speed", "memory_bytes", "spectral_efficiency", "headroom")
_PROBLEM_KEYS = ("profile", "fleet", "bandwidth_hz", "local_steps", "pinned", "forbidden")
_PROOFS: dict[str, type[Proof]] = {"hall": HallProof, "prices": PriceProof, "multipliers": MultiplierProof}
_BLOCK_KEYS = ("device_of_block", "bandwidth_hz", "compute_s", "upload_s", "hits_memory_wall")
_SCHEDULE_KEYS = ("method", *_BLOCK_KEYS, "latency_s", "lower_bound_s", "iterations")


def save_schedule(schedule: Schedule, problem: Problem, path: StrPath) -> None:
    """Write a schedule, the problem it answers, the problem's digest and the proof as one JSON file."""
    expect("schedule", schedule, Schedule)
    expect("problem", problem, Problem)
    fleet = problem.fleet
    write_json(
        path,
        _FORMAT,
        {
            "schedule": {
                "method": schedule.method,
                **{key: getattr(schedule, key).tolist() for key in _BLOCK_KEYS},
                "latency_s": schedule.latency_s,
                "lower_bound_s": None if np.isnan(schedule.lower_bound_s) else schedule.lower_bound_s,
                "iterations": schedule.iterations,
            },
            "proof": _proof_to_json(schedule.proof),
            "digest": problem.digest(),
            "problem": {
                "bandwidth_hz": problem.bandwidth_hz,
                "local_steps": problem.local_steps,
                "pinned": problem.pinned,
                "forbidden": problem.forbidden,
                "subcarrier_hz": problem.subcarrier_hz,
                "profile": profile_to_json(problem.profile),
                "fleet": {
                    "name": fleet.name,
                    "speed": fleet.speed.tolist(),
                    "memory_bytes": fleet.memory_bytes.tolist(),
                    "spectral_efficiency": fleet.spectral_efficiency.tolist(),
                    "headroom": fleet.headroom.tolist(),
                },
            },
        },
    )


def load_schedule(path: StrPath) -> tuple[Schedule, Problem]:
    """Read a schedule and the problem it answers. Reading proves nothing: call ``schedule.verify(problem)``.

    Raises
    ------
    FormatError
        If the file is not a schedule; the message names the key and the mend.
    VerificationError
        If the problem in the file is not the one that was solved: its digest differs.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5)
    >>> problem = lola.Problem(profile, lola.Fleet.sample(5, seed=1), bandwidth_hz=20e6)
    >>> lola.save_schedule(lola.schedule(problem), problem, "schedule.json")
    >>> schedule, problem = lola.load_schedule("schedule.json")
    >>> schedule.verify(problem)
    """
    data = read_json(path, _FORMAT)
    check_keys(str(path), data, ("schedule", "digest", "problem"), ("proof",))
    problem = _problem_from_json(f"{path}, problem", table(f"{path}, problem", data["problem"]))
    schedule = _schedule_from_json(
        f"{path}, schedule",
        table(f"{path}, schedule", data["schedule"]),
        _proof_from_json(f"{path}, proof", data.get("proof"), problem),
    )
    if data["digest"] != problem.digest():
        raise VerificationError("digest: the problem in the file is not the one that was solved; it was changed since")
    return schedule, problem


def _proof_to_json(proof: Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    data: dict[str, Any] = {"kind": next(kind for kind, cls in _PROOFS.items() if isinstance(proof, cls))}
    for field in fields(proof):
        value = getattr(proof, field.name)
        data[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(proof, PriceProof):  # most devices of a large fleet have price 0
        priced = np.flatnonzero(proof.device_price_hz)
        data |= {"priced_devices": priced.tolist(), "device_price_hz": proof.device_price_hz[priced].tolist()}
    return data


def _proof_from_json(where: str, value: object, problem: Problem) -> Proof | None:
    if value is None:
        return None
    data = table(where, value)
    kind = data.pop("kind", None)
    if not isinstance(kind, str) or kind not in _PROOFS:
        raise FormatError(f"{where}, kind: must be one of {', '.join(_PROOFS)}, got {shown(kind)}")
    cls = _PROOFS[kind]
    names = [field.name for field in fields(cls)]
    check_keys(where, data, [*names, "priced_devices"] if cls is PriceProof else names)
    if cls is HallProof:
        return HallProof(_integers(f"{where}, blocks", data["blocks"]))
    vectors = {
        name: np.array(numbers(f"{where}, {name}", data[name]), dtype=np.float64)
        for name in names
        if name != "bandwidth"
    }
    if cls is MultiplierProof:
        return MultiplierProof(bandwidth=number(f"{where}, bandwidth", data["bandwidth"]), **vectors)
    priced, given = _integers(f"{where}, priced_devices", data["priced_devices"]), vectors["device_price_hz"]
    inside = (priced >= 0) & (priced < problem.n_devices)
    if given.shape != priced.shape or not inside.all() or np.unique(priced).size != priced.size:
        raise FormatError(
            f"{where}: priced_devices must list distinct devices of the fleet, one for each of device_price_hz"
        )
    prices = np.zeros(problem.n_devices)
    prices[priced] = given
    return PriceProof(vectors["block_price_hz"], prices)


def _problem_from_json(where: str, data: dict[str, Any]) -> Problem:
    check_keys(where, data, _PROBLEM_KEYS, ("subcarrier_hz",))
    width = data.get("subcarrier_hz")
    fleet = table(f"{where}, fleet", data["fleet"])
    check_keys(f"{where}, fleet", fleet, _FLEET_KEYS)
    profile = profile_from_json(f"{where}, profile", table(f"{where}, profile", data["profile"]))
    vectors = [numbers(f"{where}, fleet, {key}", fleet[key]) for key in _FLEET_KEYS[1:]]
    pairs = {}
    for key in ("pinned", "forbidden"):
        if not isinstance(data[key], list):
            raise FormatError(f"{where}, {key}: a list of [device, depth] was wanted, got {shown(data[key])}")
        pairs[key] = data[key]
    try:
        return Problem(
            profile,
            Fleet(vectors[0], vectors[1], vectors[2], fleet["name"], vectors[3]),
            bandwidth_hz=number(f"{where}, bandwidth_hz", data["bandwidth_hz"]),
            local_steps=integer(f"{where}, local_steps", data["local_steps"]),
            **pairs,
            subcarrier_hz=None if width is None else number(f"{where}, subcarrier_hz", width),
        )
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def _schedule_from_json(where: str, data: dict[str, Any], proof: Proof | None) -> Schedule:
    check_keys(where, data, _SCHEDULE_KEYS)
    bound = data["lower_bound_s"]
    walls = data["hits_memory_wall"]
    if not isinstance(walls, list) or not all(isinstance(wall, bool) for wall in walls):
        raise FormatError(f"{where}, hits_memory_wall: a list of true and false was wanted, got {shown(walls)}")
    if not isinstance(data["method"], str):
        raise FormatError(f"{where}, method: text was wanted, got {shown(data['method'])}")
    return Schedule(
        method=data["method"],
        device_of_block=_integers(f"{where}, device_of_block", data["device_of_block"]),
        bandwidth_hz=np.array(numbers(f"{where}, bandwidth_hz", data["bandwidth_hz"]), dtype=np.float64),
        compute_s=np.array(numbers(f"{where}, compute_s", data["compute_s"]), dtype=np.float64),
        upload_s=np.array(numbers(f"{where}, upload_s", data["upload_s"]), dtype=np.float64),
        latency_s=number(f"{where}, latency_s", data["latency_s"]),
        lower_bound_s=np.nan if bound is None else number(f"{where}, lower_bound_s", bound),
        hits_memory_wall=np.array(walls, dtype=np.bool_),
        proof=proof,
        iterations=integer(f"{where}, iterations", data["iterations"]),
    )


def _integers(where: str, value: object) -> np.ndarray:
    if not isinstance(value, list):
        raise FormatError(f"{where}: a list of integers was wanted, got {shown(value)}")
    entries = [integer(f"{where}[{i}]", entry) for i, entry in enumerate(value)]
    if any(not -(2**63) <= entry < 2**63 for entry in entries):
        raise FormatError(f"{where}: an entry does not fit 64 bits")
    return np.array(entries, dtype=np.int64)
