"""``lola serve``: fine-tune over real devices. Only the standard library is imported before it runs."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lola.cli.broker import MOST_BYTES, PORT, add_broker
from lola.cli.train import add_setting

if TYPE_CHECKING:
    from lola.adapters import CooperativeSession
    from lola.devices import BrokerAddress, ServedDevices
    from lola.devices.timings import TimingsFile

# Twenty norms of honest gradients lie closer together than this.
_REFUSE_ABOVE = 10.0
# An honest device is refused by chance once in a while, not five times in a hundred rounds.
_QUARANTINE_AFTER = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_setting(parser)
    # What devices say of themselves.
    parser.set_defaults(fleet=None, channel="static", failure=0.0)
    parser.set_defaults(refuse_above=_REFUSE_ABOVE, quarantine_after=_QUARANTINE_AFTER)
    add_broker(parser, default=None)
    parser.add_argument(
        "--embedded", action="store_true", help="start a broker in this process, on 127.0.0.1, for trying out"
    )
    parser.add_argument(
        "--port", type=int, default=PORT, help=f"of the embedded broker (default {PORT}; 0: a free one)"
    )
    parser.add_argument(
        "--most-bytes",
        type=int,
        metavar="N",
        help=f"of a message that the embedded broker takes (default {MOST_BYTES})",
    )
    parser.add_argument("--certificates", metavar="FOLDER", help="of lola certificates, for a broker that wants them")
    parser.add_argument(
        "--devices", metavar="A,B,…", help="names that the first round waits for, numbered in this order"
    )
    parser.add_argument(
        "--slack", type=float, default=1.5, metavar="X", help="end a round at X times its schedule (default 1.5)"
    )
    parser.add_argument(
        "--patience-s", type=float, default=600.0, metavar="S", help="wait so long for devices (default 600)"
    )
    parser.add_argument(
        "--longest-s", type=float, default=3600.0, metavar="S", help="end any round after so long (default 3600)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import need_extras, set_up_torch, settings_of, wait_quietly
    from lola.solvers.checks import positive_integer

    need_extras("train", "devices")
    wait_quietly()
    from lola.adapters.checkpoint import checkpoints
    from lola.cli.train import bring_home, summarise, with_ranks
    from lola.devices import ServedDevices
    from lola.devices.timings import TimingsFile
    from lola.files.formats import plain
    from lola.tasks.folder import check_folder, write_settings
    from lola.tasks.serving import prepare_serving
    from lola.tasks.settings import TrainingSettings

    settings = settings_of(TrainingSettings, with_ranks(options))
    positive_integer("rounds", options.rounds)
    out = Path(options.out)
    check_folder(out, settings)
    try:
        with ExitStack() as stack:
            address = stack.enter_context(_broker(options))
            set_up_torch(options.threads)
            training = prepare_serving(
                settings,
                address,
                options.run_name,
                folder=out,
                say=lambda line: print(plain(line), flush=True),
                names=[] if options.devices is None else options.devices.split(","),
                slack=options.slack,
                patience_s=options.patience_s,
                longest_s=options.longest_s,
            )
            session, devices = training.session, training.session.devices
            assert isinstance(devices, ServedDevices)
            _check_room(options, devices)
            print(*map(plain, training.notes), sep="\n")
            print(plain(f"run {options.run_name} is served at {address}"), flush=True)
            stack.enter_context(session.alone())
            check_folder(out, settings)  # another run may have begun there meanwhile
            write_settings(out, settings)
            timings = TimingsFile(out, session.version)
            with devices, _ending_between_steps(devices):
                _serve(session, devices, options.rounds, out, timings)
                devices.farewell()
            summarise(session, settings.recorded(), out, len(devices.devices()), timings.measured_s())
            home = bring_home(training, settings, out)
        print(plain(f"written: {out}"))
        print(plain(f"the model: {home}, for PEFT; lola export makes one for transformers alone, or of another round"))
    except KeyboardInterrupt:
        latest = next((path.name for path in reversed(checkpoints(out))), "the start")
        raise KeyboardInterrupt(f"the same command goes on from {latest} of {out}, and devices join again") from None


def _check_room(options: argparse.Namespace, devices: "ServedDevices") -> None:
    """Refuse an update that the embedded broker would not take: other brokers say so themselves."""
    from lola.devices.connection import AROUND
    from lola.solvers.errors import LolaValueError

    most_bytes = MOST_BYTES if options.most_bytes is None else options.most_bytes
    if options.embedded and devices.update_bytes + AROUND > most_bytes:
        raise LolaValueError(
            f"--most-bytes must be at least {devices.update_bytes + AROUND} for this model's update, got {most_bytes}; "
            "raise it, or take a smaller --rank"
        )


@contextmanager
def _broker(options: argparse.Namespace) -> "Iterator[BrokerAddress]":
    """Give the address of the broker that options name, or of one that runs meanwhile."""
    import logging

    from lola.cli.broker import address_of
    from lola.devices import Certificates, EmbeddedBroker
    from lola.solvers.checks import positive_integer
    from lola.solvers.errors import LolaValueError

    if options.embedded == (options.broker is not None):
        raise LolaValueError(
            f"--embedded or a --broker is needed, one of the two, got {'both' if options.embedded else 'neither'}; "
            "--embedded is for trying out"
        )
    if options.embedded:
        if options.certificates is not None:
            raise LolaValueError("the embedded broker knows no certificates, got --certificates; start mosquitto")
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)  # it takes a choice of protocol for an error
        most_bytes = MOST_BYTES if options.most_bytes is None else positive_integer("--most-bytes", options.most_bytes)
        embedded = EmbeddedBroker(options.port, most_bytes=most_bytes)
        try:
            embedded.start()
        except (OSError, OverflowError) as error:
            raise LolaValueError(
                f"--port must be a free one for the embedded broker, got {options.port} ({error}); take another, or 0"
            ) from None
        try:
            yield embedded.address
        finally:
            embedded.stop()
        return
    if options.most_bytes is not None:
        raise LolaValueError("--most-bytes is the embedded broker's, and needs --embedded; or change mosquitto.conf")
    if options.certificates is None:
        yield address_of(options.broker)
        return
    certificates = Certificates(options.certificates)
    certificate, key = certificates.paths("server")
    yield address_of(options.broker, certificates.authority, certificate, key)


def _serve(
    session: "CooperativeSession", devices: "ServedDevices", rounds: int, out: Path, timings_file: "TimingsFile"
) -> None:
    from lola.cli.live import RoundsShown
    from lola.devices import DevicesGoneError, timings_of
    from lola.devices.serving import InterruptedBetweenStepsError
    from lola.tasks.serving import record_devices

    shown = RoundsShown(session, devices, rounds)
    try:
        with shown.following():
            for record in session.run(rounds):
                record_devices(out, devices.register.names)
                assert session.schedule is not None
                timings = timings_of(record.version, session.schedule, devices.exchanges)
                timings_file.append(timings)
                shown.ended(record, timings)
    except (InterruptedBetweenStepsError, DevicesGoneError):  # nothing that was learnt is lost
        if session.version:
            session.save()
        raise
    session.save()  # not after any other exception: the step that it comes from may be half done


@contextmanager
def _ending_between_steps(devices: "ServedDevices") -> Iterator[None]:
    """Let Ctrl-C end a round, but never a step of the optimizer; the second one does not wait."""
    import signal

    heard: list[int] = []

    def hear(number: int, _: object) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)
        devices.interrupt()

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
