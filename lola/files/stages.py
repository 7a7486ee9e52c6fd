"""What a model's modules cost, as files (JSON)."""

from importlib import resources
from typing import Any

from lola.chains.stages import StageProfile
from lola.files.formats import FormatError, StrPath, check_keys, integer, number, numbers, read_json, write_json
from lola.files.profiles import provenance_from_json
from lola.solvers.checks import expect

_FORMAT = "lola-stages"
_ARRAYS = (
    "forward_s",
    "backward_s",
    "memory_bytes",
    "inference_memory_bytes",
    "hop_bits",
    "return_bits",
    "tunable_bits",
)
_EXTRAS = ("kept_bytes", "workspace_bytes", "inference_workspace_bytes", "forward_iqr_s", "backward_iqr_s")


def load_stages(path: StrPath) -> StageProfile:
    """Read from JSON what each module of a model costs.

    Raises
    ------
    FormatError
        Naming the file, the key, and the mend.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import lola
    >>> stages = lola.StageProfile(
    ...     forward_s=[1, 2, 1], backward_s=[0, 3, 1], memory_bytes=[1e8, 3e8, 1e7], result_bits=64, batch_size=1,
    ...     inference_memory_bytes=[1e8, 1e8, 1e7], hop_bits=8e6, return_bits=[0, 8e6], tunable_bits=[0, 8e5, 5e4])
    >>> lola.save_stages(stages, "stages.json")
    >>> lola.load_stages("stages.json")
    <StageProfile of 3 modules: no provenance>
    """
    return stages_from_json(str(path), read_json(path, _FORMAT))


def builtin_stages() -> StageProfile:
    """Return what ships with lola: RoBERTa-base with LoRA, in batches of 32 × 128, on the reference phone."""
    with resources.as_file(resources.files("lola.data")) as folder:
        return load_stages(folder / "roberta-base-stages.json")


def save_stages(stages: StageProfile, path: StrPath) -> None:
    """Write what each module costs as versioned JSON, with its provenance."""
    expect("stages", stages, StageProfile)
    write_json(path, _FORMAT, stages_to_json(stages))


def stages_to_json(stages: StageProfile) -> dict[str, Any]:
    """Return what `stages_from_json` reads."""
    arrays = {name: getattr(stages, name) for name in (*_ARRAYS, *_EXTRAS)}
    return {
        "module": list(stages.module),
        "batch_size": stages.batch_size,
        **{name: array.tolist() for name, array in arrays.items() if array is not None},
        "result_bits": stages.result_bits,
        "provenance": None if stages.provenance is None else stages.provenance.to_dict(),
    }


def stages_from_json(where: str, data: dict[str, Any]) -> StageProfile:
    """Build what each module costs from a JSON object."""
    check_keys(where, data, (*_ARRAYS, "result_bits", "batch_size"), ("module", *_EXTRAS, "provenance"))
    arrays = {name: numbers(f"{where}, {name}", data[name]) for name in (*_ARRAYS, *_EXTRAS) if name in data}
    module = data.get("module")
    if module is not None and not isinstance(module, list):
        raise FormatError(f"{where}, module: a list of names was wanted, got {type(module).__name__}")
    try:
        return StageProfile(
            **arrays,
            result_bits=number(f"{where}, result_bits", data["result_bits"]),
            batch_size=integer(f"{where}, batch_size", data["batch_size"]),
            module=module,
            provenance=provenance_from_json(where, data.get("provenance")),
        )
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None
