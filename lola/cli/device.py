"""``lola device``: take part in a run of ``lola serve``. Only the standard library is imported before it runs."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lola.cli.broker import add_broker

if TYPE_CHECKING:
    from lola.devices import BrokerAddress, JoinedDevice, Visit
    from lola.tasks import Member, RunAnnouncement

# An uplink that is shared changes; one upload must not decide.
_UPLINK_WEIGHT = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--model", required=True, help="folder or hub name of the run's model")
    parser.add_argument("--data", required=True, help="folder of GLUE with what this device trains on, or hub")
    parser.add_argument(
        "--shard", metavar="I/N", help="of the data, only what lola train deals to the I-th of N devices"
    )
    add_broker(parser, default="127.0.0.1")
    parser.add_argument("--name", help="of this device, where it has no certificate")
    parser.add_argument("--certificate", metavar="NAME.pem", help="of this device, with NAME.key beside it")
    parser.add_argument(
        "--authority", metavar="F.pem", help="who signed it (default: authority.pem beside it, or a folder further up)"
    )
    parser.add_argument("--memory", type=float, metavar="BYTES", help="that it offers (default: what is free)")
    parser.add_argument(
        "--speed", type=float, metavar="X", help="relative to the server's profile (default: measured once)"
    )
    parser.add_argument("--uplink-bps", type=float, metavar="BPS", help="bit/s of its uplink (default: timed)")
    parser.add_argument(
        "--pace", action="store_true", help="upload no faster than the schedule's share, where devices share an uplink"
    )
    parser.add_argument("--threads", type=int, help="CPU threads")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import naming_options, need_extras, set_up_torch, wait_quietly
    from lola.files.formats import plain

    need_extras("train", "devices")
    wait_quietly()
    from lola.devices import JoinedDevice, Visit
    from lola.devices.status import check_measures
    from lola.tasks import RunAnnouncement, prepare_member
    from lola.tasks.announcement import ANNOUNCEMENT_BYTES
    from lola.tasks.joining import available_memory_bytes

    name, address = _who_and_where(options)
    shard = _shard(options.shard)
    with naming_options("speed", "uplink_bps", memory_bytes="--memory"):
        check_measures(*(1.0 if one is None else one for one in (options.speed, options.memory, options.uplink_bps)))
    memory_bytes = available_memory_bytes() if options.memory is None else options.memory  # before the model is here
    with Visit(address, options.run_name, name, most_bytes=ANNOUNCEMENT_BYTES) as visit:
        print(plain(f"{name} joins run {options.run_name} at {address}"), flush=True)
        told = visit.announcement()
        announcement = RunAnnouncement.from_bytes(told)
        set_up_torch(options.threads)
        member = prepare_member(announcement, options.model, options.data, shard=shard)
        print(plain(f"data: {member.source}; {member.rows} rows"), flush=True)
        speed = _speed(member, announcement) if options.speed is None else options.speed
        uplink_bps = _uplink_bps(member, visit) if options.uplink_bps is None else options.uplink_bps
    print(f"offers {memory_bytes:.3g} bytes, speed {speed:.3g}, uplink {uplink_bps:.3g} bit/s", flush=True)
    hertz = announcement.settings.bandwidth_hz
    device = JoinedDevice(
        told,
        member.depths,
        member.batches,
        address,
        options.run_name,
        name,
        speed=speed,
        memory_bytes=memory_bytes,
        uplink_bps=uplink_bps,
        rows=member.rows,
        seed=announcement.settings.seed,
        profile=announcement.profile,
        pace=(lambda task: task.bandwidth_hz * uplink_bps / hertz) if options.pace else None,
        uplink_weight=_UPLINK_WEIGHT if options.uplink_bps is None and not options.pace else 0.0,
    )
    if _run_until_interrupted(device):
        raise KeyboardInterrupt(f"{name} has left run {options.run_name}; the same command joins it again")
    print(plain(f"run {options.run_name} has ended"))


def _who_and_where(options: argparse.Namespace) -> "tuple[str, BrokerAddress]":
    from lola.cli.broker import address_of
    from lola.devices.certificates import name_of
    from lola.solvers.errors import LolaValueError

    if (options.name is None) == (options.certificate is None):
        raise LolaValueError(
            "a device needs --name, or a --certificate that has it: one of the two, got "
            f"{'neither' if options.name is None else 'both'}; lola certificates makes one"
        )
    if options.certificate is None:
        if options.authority is not None:
            raise LolaValueError("--authority goes with a --certificate, got none; give both, or neither")
        return options.name, address_of(options.broker)
    certificate = Path(options.certificate)
    beside = [folder / "authority.pem" for folder in (certificate.parent, certificate.parent.parent)]
    usual = next((path for path in beside if path.is_file()), beside[0])
    authority = usual if options.authority is None else Path(options.authority)
    address = address_of(options.broker, authority, certificate, certificate.with_suffix(".key"))
    address.tls()  # what is wrong with the files is better said by their names
    return name_of(certificate), address


def _shard(text: str | None) -> tuple[int, int] | None:
    from lola.solvers.checks import shown
    from lola.solvers.errors import LolaValueError

    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise LolaValueError(f"--shard must be one of n, such as 1/4 … 4/4, got {shown(text)}")
    return int(match[1]), int(match[2])


def _speed(member: "Member", announcement: "RunAnnouncement") -> float:
    import torch
    from platformdirs import user_cache_dir

    from lola.profiling.machine import cpu_name, software
    from lola.tasks.joining import measured_speed

    of = f"{announcement.settings.batch} {torch.get_num_threads()} {cpu_name()} {software()}"
    folder = Path(user_cache_dir("lola", appauthor=False))
    return measured_speed(member, announcement.profile, folder=folder, of=of)


def _uplink_bps(member: "Member", visit: "Visit") -> float:
    depths = member.depths
    return visit.uplink_bps(max(int(depths.upload_bits(depth)) for depth in range(1, len(depths) + 1)) // 8)


def _run_until_interrupted(device: "JoinedDevice") -> bool:
    """Run a device; Ctrl-C lets it say goodbye once what it computes is computed, and a second one does not wait."""
    import signal

    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        device.stop()

    before = signal.signal(signal.SIGINT, hear)
    try:
        device.run()
    finally:
        signal.signal(signal.SIGINT, before)
    return bool(heard)
