"""What mosquitto needs to be a run's broker: its configuration, and the list of who may do what."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from lola.devices.certificates import Certificates
from lola.devices.connection import AROUND
from lola.devices.status import check_name
from lola.devices.topics import ROOT, SERVER
from lola.files.formats import write_atomically
from lola.solvers.checks import positive_integer
from lola.solvers.errors import LolaValueError

_QUEUED, _QUEUED_BYTES = 50_000, 2**30
_OF_SERVER = f"""\
user {SERVER}
topic readwrite {ROOT}/#
"""
# %u is who the certificate says the client is.
_OF_DEVICES = """
pattern read {run}/announcement
pattern read {run}/update
pattern read {run}/task/%u
pattern write {run}/answer/%u
pattern write {run}/status/%u
pattern write {run}/probe/%u
"""


def installed_mosquitto() -> str | None:
    """Return where mosquitto is on this machine, also in folders of root's path alone; None if nowhere."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def write_mosquitto(
    certificates: Certificates,
    *,
    runs: Iterable[str] = ("run",),
    port: int = 8883,
    bind: str = "",
    most_bytes: int = 2**26,
    memory_bytes: int = 2 * _QUEUED_BYTES,
) -> tuple[Path, Path]:
    """Write ``mosquitto.conf`` and ``access.txt`` beside the certificates, and return their paths.

    Clients must show a certificate of the authority, are who it says, and may do what the access list says: of the
    runs named, a device reads what the run is, the update and its own task, and writes its own answer, status and
    probe; the server may do all of it, in any run.

    Parameters
    ----------
    certificates : Certificates
    runs : iterable of str
        That devices may take part in.
    port : int
    bind : str, optional
        The one address to listen on; all of them if left out.
    most_bytes : int
        A larger message is not taken.
    memory_bytes : int
        What the broker may take of the machine's memory, so that who fills it with retained messages ends neither the
        machine nor the broker. Then messages are dropped and their senders disconnected until it is restarted.

    Raises
    ------
    TypeError, ValueError
        If there is no run, a run's name, the port or a size is none, or a path cannot stand in such a file.
    """
    if positive_integer("port", port) > 65535:
        raise LolaValueError(f"port must be at most 65535, got {port}; 8883 is usual")
    named = [check_name("a run", run) for run in runs]
    if not named:
        raise LolaValueError("devices must be let take part in at least one run, got none; name it")
    folder = certificates.folder.resolve()
    if any(not letter.isprintable() for letter in f"{folder}{bind}"):
        raise LolaValueError(f"{folder}: a folder with a plain name was wanted, for it stands in a file; rename it")
    certificate, key = certificates.broker
    access, configuration = folder / "access.txt", folder / "mosquitto.conf"
    lines = [
        f"listener {port} {bind}".rstrip(),
        f"cafile {certificates.authority.resolve()}",
        f"certfile {certificate.resolve()}",
        f"keyfile {key.resolve()}",
        f"crlfile {certificates.revoked.resolve()}",
        "tls_version tlsv1.2",
        "require_certificate true",
        "use_identity_as_username true",
        # Else whoever takes another's client identifier throws it out.
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {access}",
        f"message_size_limit {positive_integer('most_bytes', most_bytes)}",
        # Which clients are told, so that the server can say at once that its update is too large.
        f"max_packet_size {most_bytes + AROUND}",
        # What exceeds a queue is lost: the server's must hold what all devices say at once.
        "max_inflight_messages 100",
        f"max_queued_messages {_QUEUED}",
        f"max_queued_bytes {_QUEUED_BYTES}",
        f"memory_limit {positive_integer('memory_bytes', memory_bytes)}",
        "persistence false",
    ]
    write_atomically(access, _OF_SERVER + "".join(_OF_DEVICES.format(run=f"{ROOT}/{run}") for run in named))
    write_atomically(configuration, "\n".join(lines) + "\n")
    return configuration, access
