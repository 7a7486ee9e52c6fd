"""A fine-tuned model taken home: a folder that PEFT puts on its base, or that transformers loads alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lola.files.folders import check_new_folder, seal, written_whole
from lola.files.formats import StrPath, write_atomically
from lola.models.errors import ModelError
from lola.models.loading import import_transformers, reading
from lola.models.seeding import seeded

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = dict[str, torch.Tensor]

_ADAPTER = "default"  # what peft calls it unless told
# What peft calls the kinds of model that it has a class for; the others find theirs by the name of their own.
_TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "CausalLM": "CAUSAL_LM"}


def export(
    model: nn.Module,
    heads: Sequence[str],
    folder: StrPath,
    *,
    merged: bool = False,
    tokenizer: Any = None,
    card: str | None = None,
) -> Path:
    """Write a model with its adapters; `Depths.save_pretrained` calls this with its own.

    Parameters
    ----------
    model : torch.nn.Module
        With the adapters that `attach_lora` put there. It stays as it is.
    heads : sequence of str
        Names of its heads, which are kept whole, trained or not.
    folder : path-like
        New, or empty.
    merged : bool
        False writes the adapters, the head and whatever else the base does not have, for
        ``PeftModel.from_pretrained(base, folder)``; its logits are the model's to the last bit. True writes a whole
        model, for transformers alone; its logits are the model's up to rounding.
    tokenizer : optional
        What has a ``save_pretrained`` of its own, written beside the model.
    card : str, optional
        What the folder's README says.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    FormatError, OSError
        If the folder holds something already, or cannot be written to.
    ModelError
        If the base cannot be loaded again or has other weights where adapters are, or, merged, the model is none of
        transformers'.

    Notes
    -----
    A model that was loaded from somewhere is compared with its base, loaded again; one that was made from a
    configuration has no base that could be named, and its adapter goes with the weights that its maker has kept.
    """
    target = Path(folder).resolve()
    check_new_folder(target)
    with written_whole(target) as draft:
        if merged:
            _write_merged(model, draft)
        else:
            _write_adapter(model, heads, draft)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        if card is not None:
            write_atomically(draft / "README.md", card)
        seal(draft)
    return target


def _write_adapter(model: Any, heads: Sequence[str], folder: Path) -> None:
    """Write LoRA's weights, and whole modules that the base does not have as they are here, as peft reads them."""
    from safetensors.torch import save_file

    base = getattr(model, "name_or_path", None) or None
    kept = _matched(model, [*heads, *(_changed(model, base, heads) if base else [])])
    config = copy.deepcopy(model.peft_config[_ADAPTER])
    config.base_model_name_or_path = str(Path(base).resolve()) if base and Path(base).is_dir() else base
    kind = type(model)
    config.task_type = next((task for name, task in _TASKS.items() if kind.__name__.endswith(f"For{name}")), None)
    if config.task_type is None:
        config.auto_mapping = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    config.target_modules = sorted(config.target_modules)  # of a set, whose order differs from run to run
    config.modules_to_save = kept or None
    config.inference_mode = True
    config.save_pretrained(folder)
    suffix = f".{_ADAPTER}.weight"
    stored = {
        f"{name.removesuffix(suffix)}.weight": value for name, value in model.state_dict().items() if ".lora_" in name
    }
    for path in kept:
        stored |= {f"{path}.{name}": value for name, value in model.get_submodule(path).state_dict().items()}
    # Cloned, for safetensors refuses tensors that share memory.
    tensors = {f"base_model.model.{name}": value.detach().clone().contiguous() for name, value in stored.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _matched(model: nn.Module, paths: Sequence[str]) -> list[str]:
    """Return the modules that peft will replace by those of the file: it compares the ends of paths."""
    return [name for name, _ in model.named_modules() if any(name.endswith(path) for path in paths)]


def _changed(model: nn.Module, base: str, heads: Sequence[str]) -> list[str]:
    """Return the frozen modules that the base, loaded again, does not have as they are here, such as a new pooler.

    Raises
    ------
    ModelError
        If the base cannot be loaded, or differs in what an adapter cannot bring along.
    """
    import torch

    ours = _without_adapters(model)
    theirs, drawn = _base_state(model, base)
    differing = [
        name
        for name, value in ours.items()
        if name in drawn or name not in theirs or not torch.equal(value.detach().cpu(), theirs[name])
    ]
    adapted = {f"{path}." for path, _ in _adapted(model)}
    modules = set()
    for name in differing:
        path = name.rpartition(".")[0]
        if not path or any(name.startswith(place) for place in adapted):
            raise ModelError(
                f"an adapter would not fit its base: {name} is not what {base} has; export the whole model, merged=True"
            )
        if not any(name.startswith(f"{head}.") for head in heads):
            modules.add(path)
    return sorted(modules)


def _base_state(model: Any, base: str) -> tuple[State, set[str]]:
    """Load the base again; return its weights, and the names of those that were drawn, because its files lack them."""
    transformers = import_transformers()
    trouble = f"{base}: the adapter's base cannot be loaded; export the whole model, merged=True"
    with _quiet(transformers), seeded(0), reading(trouble):
        loaded, report = type(model).from_pretrained(
            base,
            config=copy.deepcopy(model.config),
            dtype=model.dtype,
            weights_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return loaded.state_dict(), {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep to ourselves what transformers has to say of weights that the base lacks."""
    before, shown = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        if shown:
            transformers.logging.enable_progress_bar()


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def _without_adapters(model: nn.Module) -> State:
    """Return the state that the model had before it was adapted, by the names that it had."""
    state = {name: value for name, value in model.state_dict().items() if ".lora_" not in name}
    for path, _ in _adapted(model):
        inner = f"{path}.base_layer."
        state = {f"{path}.{n.removeprefix(inner)}" if n.startswith(inner) else n: v for n, v in state.items()}
    return state


def _write_merged(model: Any, folder: Path) -> None:
    """Write the model as if it had never been adapted, with what LoRA adds in its weights."""
    if not hasattr(model, "save_pretrained"):
        raise ModelError(
            f"a whole model is written by transformers, and {type(model).__name__} is none of its models; export the "
            "adapter alone, merged=False, or torch.save your own"
        )
    import torch

    state = _without_adapters(model)
    with torch.no_grad():
        for path, layer in _adapted(model):
            state[f"{path}.weight"] = layer.base_layer.weight + layer.get_delta_weight(_ADAPTER)
    with _quiet(import_transformers()):
        model.save_pretrained(folder, state_dict=state)
