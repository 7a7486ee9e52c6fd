"""A run's model taken home, with a card that says what it is and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lola.adapters.record import RoundRecord, count_devices_used
from lola.files.formats import StrPath, plain
from lola.files.version import __version__
from lola.models.depths import Depths
from lola.tasks.glue import glue_task
from lola.tasks.settings import TrainingSettings
from lola.tasks.texts import TextClassifier


def take_home(
    folder: StrPath,
    settings: TrainingSettings,
    classifier: TextClassifier,
    depths: Depths,
    records: Sequence[RoundRecord],
    *,
    profile: str,
    merged: bool = False,
) -> Path:
    """Write a run's model with its tokenizer and a card; see `lola.models.export`.

    Parameters
    ----------
    folder : path-like
        New, or empty.
    settings : TrainingSettings
    classifier : TextClassifier
    depths : lola.models.Depths
        Of the classifier's model, with the weights of the last record.
    records : sequence of RoundRecord
        All rounds so far.
    profile : str
        Where the profile comes from, in words.
    merged : bool
        Whether the whole model is written, for transformers alone; or what PEFT puts on its base.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    FormatError, ModelError, OSError
        See `lola.models.export`.

    Notes
    -----
    The card names files and folders without the path to them. The path of a base that is a folder stands in
    ``adapter_config.json`` alone, where PEFT looks for it.
    """
    card = _card(settings, records, profile, merged)
    return depths.save_pretrained(folder, merged=merged, tokenizer=classifier.tokenizer_to_keep(), card=card)


def _card(settings: TrainingSettings, records: Sequence[RoundRecord], profile: str, merged: bool) -> str:
    task, local = glue_task(settings.task), Path(settings.model).is_dir()
    name = Path(settings.model).resolve().name if local else settings.model
    scored = next((record for record in reversed(records) if record.scores), None)
    head = ["---", f"library_name: {'transformers' if merged else 'peft'}", "pipeline_tag: text-classification"]
    head += ["---", ""] if local else [f"base_model: {_cell(name)}", "---", ""]
    says = [
        f"# {_cell(name)}, fine-tuned on {task.name}",
        "",
        f"By lola {__version__}, with LoRA, in {len(records)} rounds, which take "
        f"{records[-1].clock_s if records else 0.0:.6g} s by their schedules.",
    ]
    if (used := count_devices_used(records)) is not None:
        says += [f"Devices whose gradients were used: {used}."]
    says += [""]
    if scored is not None:
        says += [f"| on the dev split, after round {scored.version} | |", "|---|---:|"]
        says += [f"| {metric} | {value:.4f} |" for metric, value in scored.scores.items()] + [""]
    says += [f"Class {number}: {label}." for number, label in enumerate(task.meanings or task.labels)]
    says += [f"Texts were cut to {settings.seq} tokens.", "", "## Load it", "", "In this folder:", ""]
    if local and not merged:
        says[-2] = (
            f"In this folder, while adapter_config.json says in base_model_name_or_path where {_cell(name)} lies:"
        )
    loads = ["from transformers import AutoModelForSequenceClassification, AutoTokenizer", ""]
    if merged:
        loads += ['model = AutoModelForSequenceClassification.from_pretrained(".")']
    else:
        loads = ["from peft import PeftConfig, PeftModel", *loads]
        loads += ['base = PeftConfig.from_pretrained(".").base_model_name_or_path']
        loads += [f"base = AutoModelForSequenceClassification.from_pretrained(base, num_labels={task.n_labels})"]
        loads += ['model = PeftModel.from_pretrained(base, ".")']
    loads += ['tokenizer = AutoTokenizer.from_pretrained(".")']
    warned = "Where transformers says that `classifier.weight` is MISSING from the base: PEFT puts this folder's there."
    settled = {**settings.recorded(), "profile": profile}
    for key in ("model", "data", "fleet", "channel"):  # paths tell more of a computer than a reader needs
        if settled[key] is not None and Path(settled[key]).is_absolute():
            settled[key] = Path(settled[key]).name
    comes = ["", "## Where it comes from", "", "| setting | |", "|---|---|"]
    comes += [f"| {key} | {_cell(str(value))} |" for key, value in settled.items() if value is not None]
    return "\n".join([*head, *says, "```python", *loads, "```", *([] if merged else ["", warned]), *comes, ""])


def _cell(text: str) -> str:
    return " ".join(plain(text).split()).replace("|", "\\|")
