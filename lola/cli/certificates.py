"""``lola certificates``: who may take part. Only the standard library is imported before it runs."""

import argparse
from pathlib import Path

from lola.cli.broker import MOST_BYTES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("folder", metavar="FOLDER", help="where they are, or shall be; it holds the authority's key")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that clients know the broker by; makes a new authority, and mosquitto's configuration",
    )
    parser.add_argument("--port", type=int, metavar="N", help="that a new broker listens on (default: 8883)")
    parser.add_argument(
        "--most-bytes", type=int, metavar="N", help=f"of a message that a new broker takes (default: {MOST_BYTES})"
    )
    parser.add_argument(
        "--run",
        dest="runs",
        action="append",
        default=[],
        metavar="NAME",
        help="that devices may take part in at a new broker (default: run)",
    )
    parser.add_argument("--device", action="append", default=[], metavar="NAME", help="make a device's certificate")
    parser.add_argument("--revoke", action="append", default=[], metavar="NAME", help="let a device in no more")
    parser.add_argument("--days", type=int, default=825, help="that new certificates are valid for (default: 825)")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.devices.certificates import Certificates
    from lola.devices.mosquitto import write_mosquitto
    from lola.files.formats import plain
    from lola.solvers.errors import LolaValueError

    folder = Path(options.folder)
    if options.host:
        certificates = Certificates.create(folder, options.host, days=options.days)
        port = 8883 if options.port is None else options.port
        most_bytes = MOST_BYTES if options.most_bytes is None else options.most_bytes
        configuration, _ = write_mosquitto(certificates, runs=options.runs or ["run"], port=port, most_bytes=most_bytes)
        print(plain(f"written: {folder}, a new authority; its key decides who takes part, so keep it"))
        print(plain(f"start the broker as whoever may read the keys: mosquitto -c {configuration}"))
        print(plain(f"lola's server shows {', '.join(map(str, certificates.paths('server')))}"))
    else:
        certificates = Certificates(folder)
        if not certificates.authority.is_file():
            raise LolaValueError(f"{folder}: there is no authority; make one, by --host and a name of the broker")
        if options.port is not None:
            raise LolaValueError("--port is of a new broker, and needs --host; or change mosquitto.conf")
        if options.most_bytes is not None:
            raise LolaValueError("--most-bytes is of a new broker, and needs --host; or change mosquitto.conf")
        if options.runs:
            raise LolaValueError("--run is of a new broker, and needs --host; or add its lines to access.txt")
    for name in options.revoke:
        certificates.revoke(name)
        print(plain(f"revoked: {name}; restart the broker"))
    for name in options.device:
        certificate, key = certificates.add_device(name, days=options.days)
        print(plain(f"{name} needs {certificate}, {key} and {certificates.authority}"))
