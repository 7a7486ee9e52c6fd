"""``lola certificates``: who may take part, and a broker's configuration. Only the standard library is imported."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("folder", metavar="FOLDER", help="of the certificates; made if it is not there or empty")
    parser.add_argument(
        "--host", nargs="+", action="extend", default=[], help="names or addresses of the broker; for a new folder"
    )
    parser.add_argument(
        "--device", nargs="+", action="extend", default=[], metavar="NAME", help="make certificates for devices"
    )
    parser.add_argument(
        "--revoke", nargs="+", action="extend", default=[], metavar="NAME", help="let devices in no more, or the server"
    )
    parser.add_argument("--days", type=int, default=825, metavar="N", help="that new ones are valid for (default 825)")
    parser.add_argument("--port", type=int, default=8883, help="that the broker listens on (default 8883)")
    parser.add_argument("--bind", default="", metavar="ADDRESS", help="the one it listens on (default: all)")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import need_extras
    from lola.devices import Certificates, write_mosquitto
    from lola.files.formats import plain
    from lola.solvers.errors import LolaValueError

    need_extras("devices")
    folder = Path(options.folder)
    if folder.is_dir() and any(folder.iterdir()):
        if options.host:
            raise LolaValueError(
                f"{folder}: hosts are named when an authority is made, and there is one; leave --host out, or name a "
                "new folder"
            )
        certificates = Certificates(folder)
    else:
        if not options.host:
            raise LolaValueError(f"{folder}: is new, so the broker's --host is needed; such as --host 192.0.2.1")
        certificates = Certificates.create(folder, options.host, days=options.days)
        for path in write_mosquitto(certificates, port=options.port, bind=options.bind):
            print(plain(f"written: {path}"))
    for name in options.revoke:
        certificates.revoke(name)
        print(plain(f"revoked: {name}; restart the broker, so that it reads {certificates.revoked}"))
    for name in options.device:
        certificate, key = certificates.add_device(name, days=options.days)
        print(plain(f"for {name}: {certificate}, {key} and {certificates.authority}"))
    print(plain(f"devices: {', '.join(certificates.devices()) or 'none yet; --device NAME adds one'}"))
