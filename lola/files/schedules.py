"""A schedule as a file that can be proven again from itself alone."""

from dataclasses import replace
from typing import Any, TextIO

import numpy as np

from lola.files.formats import (
    NO_LIMIT,
    FormatError,
    StrPath,
    block_limit,
    check_keys,
    integer,
    integers,
    number,
    numbers,
    read_json,
    table,
    write_json,
)
from lola.files.profiles import profile_from_json, profile_to_json
from lola.fleet import Fleet
from lola.problem import Problem
from lola.proofs import Proof, proof_from_json, proof_to_json
from lola.solution import Schedule
from lola.solvers.checks import expect, shown
from lola.solvers.errors import VerificationError

SCHEDULE_FORMAT = "lola-schedule"
_FLEET_KEYS = ("name", "speed", "memory_bytes", "spectral_efficiency", "headroom")
_PROBLEM_KEYS = ("profile", "fleet", "bandwidth_hz", "local_steps", "pinned", "forbidden")
_SCHEDULE_KEYS = (
    "method",
    "device_of_block",
    "bandwidth_hz",
    "compute_s",
    "upload_s",
    "hits_memory_wall",
    "latency_s",
    "lower_bound_s",
    "iterations",
)


def save_schedule(schedule: Schedule, problem: Problem, path: StrPath | TextIO) -> None:
    """Write a schedule, the problem it answers, the problem's digest and the proof as JSON into a file or a stream.

    Raises
    ------
    VerificationError
        If the schedule does not hold for this problem: what is written can be proven again.
    OSError
        If the file cannot be written.
    """
    expect("schedule", schedule, Schedule)
    schedule.verify(problem)
    write_json(
        path,
        SCHEDULE_FORMAT,
        {
            "schedule": schedule.to_dict(),
            "proof": proof_to_json(schedule.proof),
            "digest": problem.digest(),
            "notes": problem.notes,
            "problem": problem_to_json(problem),
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
    data = read_json(path, SCHEDULE_FORMAT)
    check_keys(str(path), data, ("schedule", "digest", "problem"), ("proof", "notes"))
    problem = problem_from_json(f"{path}, problem", table(f"{path}, problem", data["problem"]))
    schedule = _schedule_from_json(
        f"{path}, schedule",
        table(f"{path}, schedule", data["schedule"]),
        proof_from_json(f"{path}, proof", data.get("proof"), problem),
        problem.local_steps,
    )
    if data["digest"] != problem.digest():
        raise VerificationError("digest: the problem in the file is not the one that was solved; it was changed since")
    devices = schedule.device_of_block
    if ((devices < 0) | (devices >= problem.n_devices)).any():  # `verify` says so
        return schedule, problem
    return replace(schedule, name=problem.fleet.names_of(devices)), problem


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return what `problem_from_json` reads."""
    fleet = problem.fleet
    return {
        "bandwidth_hz": problem.bandwidth_hz,
        "local_steps": problem.local_steps,
        "pinned": problem.pinned,
        "forbidden": problem.forbidden,
        "subcarrier_hz": problem.subcarrier_hz,
        "broadcast_s": problem.broadcast_s,
        "max_blocks": problem.max_blocks or NO_LIMIT,
        "profile": profile_to_json(problem.profile),
        "fleet": {
            "name": fleet.name,
            "speed": fleet.speed.tolist(),
            "memory_bytes": fleet.memory_bytes.tolist(),
            "spectral_efficiency": fleet.spectral_efficiency.tolist(),
            "headroom": fleet.headroom.tolist(),
        },
    }


def problem_from_json(where: str, data: dict[str, Any]) -> Problem:
    """Build a problem from a JSON object."""
    check_keys(where, data, _PROBLEM_KEYS, ("subcarrier_hz", "broadcast_s", "max_blocks"))
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
            Fleet(
                speed=vectors[0],
                memory_bytes=vectors[1],
                spectral_efficiency=vectors[2],
                name=fleet["name"],
                headroom=vectors[3],
            ),
            bandwidth_hz=number(f"{where}, bandwidth_hz", data["bandwidth_hz"]),
            local_steps=integer(f"{where}, local_steps", data["local_steps"]),
            **pairs,
            subcarrier_hz=None if width is None else number(f"{where}, subcarrier_hz", width),
            broadcast_s=number(f"{where}, broadcast_s", data.get("broadcast_s", 0.0)),
            max_blocks=block_limit(f"{where}, max_blocks", data.get("max_blocks", 1)),
        )
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def _schedule_from_json(where: str, data: dict[str, Any], proof: Proof | None, local_steps: int) -> Schedule:
    check_keys(where, data, _SCHEDULE_KEYS)
    bound = data["lower_bound_s"]
    walls = data["hits_memory_wall"]
    if not isinstance(walls, list) or not all(isinstance(wall, bool) for wall in walls):
        raise FormatError(f"{where}, hits_memory_wall: a list of true and false was wanted, got {shown(walls)}")
    if not isinstance(data["method"], str):
        raise FormatError(f"{where}, method: text was wanted, got {shown(data['method'])}")
    return Schedule(
        method=data["method"],
        device_of_block=np.array(integers(f"{where}, device_of_block", data["device_of_block"]), dtype=np.int64),
        bandwidth_hz=np.array(numbers(f"{where}, bandwidth_hz", data["bandwidth_hz"]), dtype=np.float64),
        compute_s=np.array(numbers(f"{where}, compute_s", data["compute_s"]), dtype=np.float64),
        upload_s=np.array(numbers(f"{where}, upload_s", data["upload_s"]), dtype=np.float64),
        latency_s=number(f"{where}, latency_s", data["latency_s"]),
        lower_bound_s=np.nan if bound is None else number(f"{where}, lower_bound_s", bound),
        hits_memory_wall=np.array(walls, dtype=np.bool_),
        proof=proof,
        iterations=integer(f"{where}, iterations", data["iterations"]),
        local_steps=local_steps,
    )
