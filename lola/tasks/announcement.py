"""What a server tells devices of its run: the message from which each prepares itself."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lola.adapters.wire import pack, unpack
from lola.files.formats import FormatError, check_keys, table
from lola.files.profiles import profile_from_json, profile_to_json
from lola.profile import Profile
from lola.solvers.checks import shown
from lola.solvers.errors import LolaTypeError, LolaValueError
from lola.tasks.settings import TrainingSettings

ANNOUNCEMENT_BYTES = 2**16  # most of one: five numbers a block
# What a device must have in common with the server. The model's name helps to find it; the identity decides.
_TOLD = (
    "model",
    "task",
    "bandwidth_hz",
    "alpha",
    "train_rows",
    "local_steps",
    "batch",
    "seq",
    "rank",
    "lora_alpha",
    "freeze_head",
    "seed",
)


@dataclass(frozen=True, eq=False)
class RunAnnouncement:
    """What a server tells devices of its run.

    Attributes
    ----------
    identity : str
        Of the model; see `lola.devices.model_identity`.
    settings : TrainingSettings
        The run's; the model by its name alone, no data, and what is the server's own affair as usual.
    profile : Profile
        What each depth costs the device that speeds are relative to.
    """

    identity: str
    settings: TrainingSettings
    profile: Profile

    @classmethod
    def of_run(cls, identity: str, settings: TrainingSettings, profile: Profile) -> RunAnnouncement:
        """Say of a run what its devices need to know, and nothing of the server's folders."""
        told = {name: getattr(settings, name) for name in _TOLD}
        if Path(settings.model).is_dir():
            told["model"] = Path(settings.model).resolve().name
        return cls(identity, TrainingSettings(**told, data=""), replace(profile, provenance=None, evidence=None))

    def to_bytes(self) -> bytes:
        """Write the announcement, to be sent."""
        told = {name: value for name, value in asdict(self.settings).items() if name in _TOLD}
        profile = profile_to_json(self.profile)
        return pack("RunAnnouncement", {"identity": self.identity, "settings": told, "profile": profile})

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int | None = None) -> RunAnnouncement:
        """Read an announcement.

        Raises
        ------
        FormatError
            If the bytes are none.
        """
        where, names = "a RunAnnouncement", ("identity", "settings", "profile")
        header, _ = unpack("RunAnnouncement", data, names, limit, header_bytes=ANNOUNCEMENT_BYTES)
        identity = header["identity"]
        if not isinstance(identity, str) or not re.fullmatch("[0-9a-f]{64}", identity):
            raise FormatError(f"{where}'s identity must be a SHA-256 in hexadecimal, got {shown(identity)}")
        told = table(f"{where}'s settings", header["settings"])
        check_keys(f"{where}'s settings", told, _TOLD)
        try:
            settings = TrainingSettings(**told, data="")
        except (LolaValueError, LolaTypeError) as error:
            raise FormatError(f"{where}'s settings: {error}") from None
        profile = table(f"{where}'s profile", header["profile"])
        return cls(identity, settings, profile_from_json(f"{where}'s profile", profile))

    def settings_for(self, model: str, data: str) -> TrainingSettings:
        """Return the run's settings with the model and the data of one device."""
        return replace(self.settings, model=model, data=data)
