"""Fig. 5 of the DEFT article: latency of one device's DEFT beside that of centralised fine-tuning, by SNR.

What the article prints is taken as printed. Its figure needs three numbers that it does not print: the size of a
prompt, the server's rate, and the size of the raw data. The first is chosen, the others are fitted to its words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lola.air

# Printed in section 6.1.
ITERATIONS, BITS, BANDWIDTH_HZ, DEVICE_SHARE = 5 * 91, 8, 20e6, 1 / 50
PRINTED_RATIO, AT_DB = 5.0, 10.0
# Megatron-11B is 3072 wide, and P-tuning's encoder for it an LSTM of that width, both directions together, and two
# linear maps: of "around 132 million weights".
WIDTH, MODEL_WEIGHTS = 3072, 11e9
# Chosen: three groups of three virtual tokens, as P-tuning's authors use them.
PROMPT_TOKENS = 9
# Counted: 2 operations a weight and token forward, 2 for the gradient of what came in, 2 for that of the weight.
FORWARD, BACKWARD, OF_WEIGHTS = 2, 2, 2
SNR_DB = np.arange(-5.0, 40.1, 0.5)

Record = dict[str, Any]


def encoder_weights() -> int:
    """Count PEFT's prompt encoder, without the embedding of its virtual tokens."""
    import torch
    from peft import PromptEncoder, PromptEncoderConfig

    config = PromptEncoderConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=PROMPT_TOKENS,
        token_dim=WIDTH,
        num_transformer_submodules=1,
        encoder_reparameterization_type="LSTM",
        encoder_hidden_size=WIDTH // 2,  # of one direction
        encoder_num_layers=2,
    )
    with torch.device("meta"):
        encoder = PromptEncoder(config)
    counted = sum(parameter.numel() for parameter in encoder.parameters())
    return counted - encoder.embedding.weight.numel()


def run() -> Record:
    """Fit, and draw the two curves; then fit again for other speeds of device and model."""
    weights = encoder_weights()
    sent_s = float(lola.air.upload_s(BITS * PROMPT_TOKENS * WIDTH, AT_DB, BANDWIDTH_HZ))
    work = (FORWARD + BACKWARD + OF_WEIGHTS) * weights * PROMPT_TOKENS
    fit = fitted(sent_s, 0.0)
    server_flops = work / (fit["device_s"] * DEVICE_SHARE)
    # The frozen model's forward and backward pass, at the fitted rate, for a text of 20 tokens, for 32, and for 320:
    # 29,000 rows in 91 iterations.
    per_token_s = (FORWARD + BACKWARD) * MODEL_WEIGHTS / server_flops
    others = [
        {"device": times, "texts": texts} | without_curves(fitted(times * sent_s, texts * 20 * per_token_s))
        for times, texts in ((0.25, 0), (4.0, 0), (1.0, 1), (1.0, 32), (1.0, 320))
    ]
    return {
        "encoder_weights": weights,
        "prompt_bits": BITS * PROMPT_TOKENS * WIDTH,
        "iterations": ITERATIONS,
        "upload_s": sent_s,
        "server_flops": server_flops,
        "snr_db": SNR_DB.tolist(),
        "fit": fit,
        "others": others,
    }


def fitted(device_s: float, model_s: float) -> Record:
    """Fit the size of the raw data so that DEFT is five times as fast at 10 dB, and return the curves.

    Parameters
    ----------
    device_s : float
        What the device computes in an iteration; the server would take a fiftieth.
    model_s : float
        What the server computes for the frozen model in an iteration, by either scheme.
    """
    common = {"iterations": ITERATIONS, "bandwidth_hz": BANDWIDTH_HZ}
    tuned = {"upload_bits": BITS * PROMPT_TOKENS * WIDTH, "device_s": device_s, "server_s": model_s, **common}
    alone_s = device_s * DEVICE_SHARE + model_s
    wanted_s = PRINTED_RATIO * float(lola.air.one_device_s(AT_DB, **tuned))
    raw_bits = (wanted_s - ITERATIONS * alone_s) / float(lola.air.upload_s(1.0, AT_DB, BANDWIDTH_HZ))
    return {
        "device_s": device_s,
        "model_s": model_s,
        "raw_bits": raw_bits,
        "floor_s": ITERATIONS * (device_s + model_s),
        "deft_s": lola.air.one_device_s(SNR_DB, **tuned).tolist(),
        "centralised_s": lola.air.centralised_s(SNR_DB, raw_bits=raw_bits, server_s=alone_s, **common).tolist(),
    }


def without_curves(fit: Record) -> Record:
    """Return a fit with the ends of its curves in place of them."""
    deft, centralised = np.array(fit["deft_s"]), np.array(fit["centralised_s"])
    numbers = {name: value for name, value in fit.items() if isinstance(value, float)}
    return numbers | {"ratio_at_ends": (centralised / deft)[[0, -1]].tolist()}
