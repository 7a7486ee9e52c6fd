"""Which models lola can split, adapt and profile: each is tried, tiny and with random weights, and a table written.

python bench/model_support.py           # writes the table of docs/depths.md
"""

import json
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from lola.models import Depths, ModelError, attach_lora
from lola.profiling import Workload, estimate
from lola.profiling.building import build, make_batch
from lola.profiling.iteration import backward

PAGE = Path(__file__).resolve().parents[1] / "docs" / "depths.md"
FIRST, LAST = "<!--models-->\n", "<!--end-->\n"
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    **_IDS,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 1, "head_dim": 8}
_IMAGE = {
    name: _TEXT[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
}
_IMAGE |= {"image_size": 16, "patch_size": 8}
_T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
_T5 |= {"decoder_start_token_id": 0}
# Architecture, model type, and what is tiny about it.
MODELS = {
    "BertForSequenceClassification": ("bert", _TEXT),
    "RobertaForSequenceClassification": ("roberta", _TEXT),
    "XLMRobertaForSequenceClassification": ("xlm-roberta", _TEXT),
    "ElectraForSequenceClassification": ("electra", {**_TEXT, "embedding_size": 16}),
    "DistilBertForSequenceClassification": (
        "distilbert",
        {"vocab_size": 64, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32},
    ),
    "AlbertForSequenceClassification": ("albert", {**_TEXT, "embedding_size": 8}),
    "ModernBertForSequenceClassification": ("modernbert", {**_TEXT, "cls_token_id": 1, "sep_token_id": 2}),
    "DebertaForSequenceClassification": ("deberta", _TEXT),
    "DebertaV2ForSequenceClassification": (
        "deberta-v2",
        {**_TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "T5ForConditionalGeneration": ("t5", _T5),
    "T5EncoderModel": ("t5", _T5),
    "GPT2LMHeadModel": (
        "gpt2",
        {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, **_IDS},
    ),
    "OPTForCausalLM": ("opt", {**_TEXT, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "GPTNeoXForCausalLM": ("gpt_neox", _TEXT),
    "PhiForCausalLM": ("phi", _TEXT),
    "Phi3ForCausalLM": ("phi3", {**_TEXT, "num_key_value_heads": 1}),
    "Qwen2ForCausalLM": ("qwen2", {**_TEXT, "num_key_value_heads": 1}),
    "Qwen3ForCausalLM": ("qwen3", _GROUPED),
    "Gemma3ForCausalLM": ("gemma3_text", _GROUPED),
    "MistralForCausalLM": ("mistral", _GROUPED),
    "MixtralForCausalLM": ("mixtral", {**_GROUPED, "num_local_experts": 2}),
    "LlamaForCausalLM": ("llama", _GROUPED),
    "LlamaForSequenceClassification": ("llama", {**_GROUPED, "pad_token_id": None}),
    "MambaForCausalLM": (
        "mamba",
        {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, **_IDS},
    ),
    "ViTForImageClassification": ("vit", _IMAGE),
    "DeiTForImageClassification": ("deit", _IMAGE),
    "WhisperForAudioClassification": (
        "whisper",
        {
            "vocab_size": 64,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "num_mel_bins": 8,
            "max_source_positions": 6,
            "classifier_proj_size": 8,
            **_IDS,
        },
    ),
}
_LENGTHLESS = ("vit", "deit", "whisper")
_SINGLE = ("mixtral",)  # its experts are multiplied in no more than single precision


@dataclass(frozen=True)
class Support:
    """What became of one model.

    Attributes
    ----------
    blocks : tuple of str
        Where they were found; empty if the model was refused.
    targets : tuple of str
    deviation : float
        The largest difference, of what a depth's gradient has in full backpropagation, in double precision
        where the model has it.
    refused, not_estimated : str
        Why; empty if it was not.
    """

    blocks: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    deviation: float = 0.0
    refused: str = ""
    not_estimated: str = ""


def tiny_workload(architecture: str, folder: Path, **changes: object) -> Workload:
    """Save a tiny configuration in a folder, and make the workload that names it, as a user would."""
    kind, settings = MODELS[architecture]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture], **settings}))
    length = None if kind in _LENGTHLESS else 6
    return Workload(str(folder), **{"batch_size": 2, "sequence_length": length, "lora_rank": 2, **changes})


def tried(architecture: str, folder: Path) -> Support:
    """Split, adapt and profile a tiny model, and compare each depth's gradients with those of full backpropagation."""
    workload = tiny_workload(architecture, folder, mode="eval")
    try:
        model, _ = build(workload, "cpu")
        batch = make_batch(workload, model.config)
        if MODELS[architecture][0] not in _SINGLE:
            model.double()
            batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        depths = attach_lora(model, rank=2, zero_init=False, seed=0)
        deviation = largest_deviation(depths, batch)
    except ModelError as error:
        return Support(refused=str(error))
    names = {id(module): name for name, module in model.named_modules()}
    blocks = tuple(dict.fromkeys(names[id(block)].rpartition(".")[0] for block in depths.blocks[::-1]))
    reason = ""
    try:
        estimate(workload)
    except ModelError as error:
        reason = str(error)
    return Support(blocks, depths.targets, deviation, not_estimated=reason)


def largest_deviation(depths: Depths, batch: dict[str, torch.Tensor]) -> float:
    """Compare what each depth trains with full backpropagation, relative to the largest gradient of each parameter."""
    depths.model.eval()
    depths.select_all()
    backward(depths, None, batch)
    full = {id(parameter): parameter.grad.clone() for parameter in depths.all_parameters()}
    worst = 0.0
    for depth in range(1, len(depths) + 1):
        depths.select(depth)
        backward(depths, depth, batch)
        for parameter in depths.parameters(depth):
            wanted = full[id(parameter)]
            worst = max(worst, float((parameter.grad - wanted).abs().max() / wanted.abs().max()))
    return worst


def row(architecture: str, support: Support) -> str:
    """Return a model's row of the table."""
    if support.refused:
        return f"| `{architecture}` | refused: {support.refused.split(':')[0]} | | |"
    if not support.deviation < 1e-9:
        raise ValueError(f"{architecture}: gradients differ by {support.deviation} from full backpropagation")
    blocks, targets = (", ".join(f"`{name}`" for name in names) for names in (support.blocks, support.targets))
    how = "measured" if support.not_estimated else "measured or estimated"
    return f"| `{architecture}` | {blocks} | {targets} | {how} |"


def filled(page: str, rows: list[str]) -> str:
    """Return a page with the table between its marks."""
    before, rest = page.split(FIRST)
    head = ["| model | blocks found at | adapted | profiled |", "|---|---|---|---|"]
    return before + FIRST + "\n".join([*head, *rows]) + "\n" + LAST + rest.split(LAST)[1]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for number, architecture in enumerate(MODELS):
            support = tried(architecture, Path(scratch) / str(number))
            sys.stderr.write(f"{architecture}: {support}\n")
            rows.append(row(architecture, support))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
