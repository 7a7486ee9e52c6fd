"""``lola export``: take a run's model home. Only the standard library is imported before it runs."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("folder", metavar="RUN", help="what lola train was given as --out")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder: weights, tokenizer, model card")
    parser.add_argument(
        "--round",
        type=int,
        metavar="N",
        help="of the checkpoint to take, of the last two, which a run keeps (default: the latest)",
    )
    parser.add_argument(
        "--merged",
        action="store_true",
        help="a whole model for transformers, not an adapter that PEFT puts on its base",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from lola.cli.common import need_extras, set_up_torch, wait_quietly
    from lola.files.folders import check_new_folder
    from lola.files.formats import plain

    need_extras("torch")
    folder, out = Path(options.folder), Path(options.out)
    check_new_folder(out)
    checkpoint = _checkpoint(folder, options.round)
    wait_quietly()
    from lola.adapters.checkpoint import load_weights
    from lola.adapters.record import RoundRecord
    from lola.tasks.export import take_home
    from lola.tasks.folder import read_settings, recorded_profile
    from lola.tasks.training import adapted_classifier

    settings = read_settings(folder)
    set_up_torch(None)
    classifier, depths = adapted_classifier(settings)
    records = [RoundRecord.from_json(record) for record in load_weights(checkpoint, depths)["records"]]
    profile = recorded_profile(folder, settings)
    take_home(out, settings, classifier, depths, records, profile=profile, merged=options.merged)
    print(plain(f"written: {out}, of {checkpoint.name}"))


def _checkpoint(folder: Path, number: int | None) -> Path:
    from lola.adapters.checkpoint import checkpoints, version_of
    from lola.files.formats import FormatError

    by_round = {version_of(path): path for path in checkpoints(folder)}
    if not by_round:
        raise FormatError(f"{folder}: holds no checkpoint; name a folder that lola train wrote")
    wanted = max(by_round) if number is None else number
    if wanted not in by_round:
        raise FormatError(
            f"{folder}: has checkpoints of rounds {', '.join(map(str, by_round))}, got {wanted}; take one"
        )
    return by_round[wanted]
