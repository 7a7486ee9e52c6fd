"""What ``lola serve`` and ``lola device`` share: where the broker is, and what is logged."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.devices import BrokerAddress

LEVELS = ("debug", "info", "warning", "error")
PORT, TLS_PORT = 1883, 8883
MOST_BYTES = 2**26  # of a message
_ADDRESS = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")


def add_broker(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    """Declare where the broker is, and which of its runs is meant."""
    usual = "" if default is None else f"; default {default}"
    parser.add_argument(
        "--broker",
        default=default,
        metavar="HOST[:PORT]",
        help=f"where it is (port {PORT}, or {TLS_PORT} with certificates, if left out{usual})",
    )
    parser.add_argument(
        "--run", dest="run_name", default="run", metavar="NAME", help="the same for server and devices (default run)"
    )
    parser.add_argument(
        "--log", choices=LEVELS, default="warning", help="least that is said on standard error (default warning)"
    )


def address_of(
    broker: str, authority: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> "BrokerAddress":
    """Return the address that an option names.

    Raises
    ------
    LolaValueError
        If it is none.
    """
    from lola.devices import BrokerAddress
    from lola.solvers.checks import shown
    from lola.solvers.errors import LolaValueError

    match = _ADDRESS.fullmatch(broker)
    if match is None:
        raise LolaValueError(f"--broker must be a host and a port, such as 192.0.2.1:8883, got {shown(broker)}")
    usual = PORT if certificate is None else TLS_PORT
    port = usual if match[2] is None else int(match[2])
    return BrokerAddress(match[1].strip("[]"), port, authority, certificate, key)
