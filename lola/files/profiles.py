"""Profiles as files, and as parts of a schedule's (JSON)."""

from dataclasses import fields
from typing import Any

from lola.evidence import Evidence
from lola.files.formats import (
    FormatError,
    StrPath,
    check_keys,
    number,
    numbers,
    read_json,
    table,
    write_json,
)
from lola.profile import Profile, Provenance
from lola.solvers.checks import expect

_FORMAT = "lola-profile"
_EXTRAS = ("extra_latency_s", "extra_memory_bytes")  # left out where they are not known


def load_profile(path: StrPath) -> Profile:
    """Read a profile from JSON.

    Raises
    ------
    FormatError
        Naming the file, the key, and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> lola.save_profile(lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[0.8, 1.2], upload_bits=8e5), "profile.json")
    >>> lola.load_profile("profile.json")
    <Profile of 2 blocks: no provenance>
    """
    return profile_from_json(str(path), read_json(path, _FORMAT))


def save_profile(profile: Profile, path: StrPath) -> None:
    """Write a profile as versioned JSON, with its provenance."""
    expect("profile", profile, Profile)
    write_json(path, _FORMAT, profile_to_json(profile))


def profile_to_json(profile: Profile) -> dict[str, Any]:
    """Return what `profile_from_json` reads."""
    data: dict[str, Any] = {
        "memory_bytes": profile.memory_bytes.tolist(),
        "latency_s": profile.latency_s.tolist(),
        "upload_bits": profile.upload_bits.tolist(),
        "provenance": None if profile.provenance is None else profile.provenance.to_dict(),
    }
    if profile.evidence is not None:
        data["evidence"] = {name: array.tolist() for name, array in profile.evidence.to_dict().items()}
    data |= {name: extra.tolist() for name in _EXTRAS if (extra := getattr(profile, name)) is not None}
    return data


def profile_from_json(where: str, data: dict[str, Any]) -> Profile:
    """Build a profile from a JSON object."""
    check_keys(where, data, ("memory_bytes", "latency_s", "upload_bits"), ("provenance", "evidence", *_EXTRAS))
    provenance, evidence = provenance_from_json(where, data.get("provenance")), None
    if data.get("evidence") is not None:
        arrays = table(f"{where}, evidence", data["evidence"])
        check_keys(f"{where}, evidence", arrays, (), [field.name for field in fields(Evidence)])
        try:
            evidence = Evidence(**{name: numbers(f"{where}, evidence, {name}", arrays[name]) for name in arrays})
        except FormatError:
            raise
        except ValueError as error:
            raise FormatError(f"{where}, evidence: {error}") from None
    bits = data["upload_bits"]
    try:
        return Profile(
            memory_bytes=numbers(f"{where}, memory_bytes", data["memory_bytes"]),
            latency_s=numbers(f"{where}, latency_s", data["latency_s"]),
            upload_bits=numbers(f"{where}, upload_bits", bits)
            if isinstance(bits, list)
            else number(f"{where}, upload_bits", bits),
            provenance=provenance,
            evidence=evidence,
            **{name: numbers(f"{where}, {name}", data[name]) for name in _EXTRAS if data.get(name) is not None},
        )
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from None


def provenance_from_json(where: str, data: object) -> Provenance | None:
    """Build a provenance from the JSON object of a profile that has one."""
    if data is None:
        return None
    origin = table(f"{where}, provenance", data)
    known = [field.name for field in fields(Provenance)]
    required = ("model", "batch_size", "sequence_length", "dtype", "source", "hardware")
    check_keys(f"{where}, provenance", origin, required, [name for name in known if name not in required])
    try:
        return Provenance(**origin)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}, provenance: {error}") from None
