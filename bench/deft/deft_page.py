"""What was measured: RESULTS.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deft_runs_page
import numpy as np
from deft_plots import draw
from one_device import AT_DB, BANDWIDTH_HZ, BITS, PRINTED_RATIO, PROMPT_TOKENS, WIDTH
from page import Template, claim, rows, write_page

import lola.air
from lola.channel import spectral_efficiency

HERE = Path(__file__).resolve().parent
# Of Fig. 6, as printed; the number of devices is that of a ratio of "around 10".
DEVICES, FUSION_DB, EPOCH, PROMPT_VALUES = 8, 20.0, 115, 2_000_000
TRIED = 9  # the seed of the trials of boosting

say = Template("deft")
Record = dict[str, Any]


def write(results: Record) -> None:
    """Write the page and its plots."""
    draw(results, HERE / "plots")
    write_page(HERE / "RESULTS.md", blocks(results))


def blocks(results: Record) -> list[str]:
    """Return what was measured as blocks of Markdown."""
    where = dict.fromkeys(f"{part['machine']}, {part['date']}" for part in results.values())
    versions = dict.fromkeys(", ".join(f"{k} {v}" for k, v in part["versions"].items()) for part in results.values())
    sections = (
        ("one-device", one_device),
        ("one-device", lambda _: many_devices()),
        ("many-devices", deft_runs_page.many_devices),
        ("many-devices", deft_runs_page.fusion),
        ("ranks", deft_runs_page.ranks),
        ("emulator", deft_runs_page.emulator),
        ("boosting", deft_runs_page.boosting),
    )
    told = [tell(results[part]) for part, tell in sections if part in results]
    return [say("head", machine="; ".join(where), versions="; ".join(versions)), *told, trials(results)]


# -- latency ----------------------------------------------------------------------------------------------------------


def one_device(data: Record) -> str:
    fit, snr_db = data["fit"], data["snr_db"]
    deft, centralised = np.array(fit["deft_s"]), np.array(fit["centralised_s"])
    gap, ratio, at = centralised - deft, centralised / deft, snr_db.index(AT_DB)
    claim(abs(ratio[at] - PRINTED_RATIO) < 1e-9, "DEFT is five times as fast at 10 dB")
    claim(bool((np.diff(gap) < 0).all() and (np.diff(ratio) < 0).all() and gap[-1] > 0), "the gap narrows")
    claim(deft[-1] / fit["floor_s"] < 1.5 < deft[at] / fit["floor_s"], "DEFT's latency levels off")
    uploaded = [float(lola.air.upload_s(fit["raw_bits"], snr_db[i], BANDWIDTH_HZ)) / centralised[i] for i in (at, -1)]
    claim(min(uploaded) > 0.5, "uploading dominates the centralised latency")
    others = data["others"]
    one_text = next(other for other in others if other["texts"] == 1)
    claim(one_text["model_s"] > one_text["device_s"], "the model takes the server longer than the encoder the device")
    claim(all(other["ratio_at_ends"][0] > PRINTED_RATIO > other["ratio_at_ends"][1] > 1 for other in others), "shape")
    sizes = [fit["raw_bits"] / 8e6, *(other["raw_bits"] / 8e6 for other in others)]
    lines = [
        [
            f"{1e3 * other['device_s']:.2f} ms",
            str(other["texts"]),
            f"{other['raw_bits'] / 8e6:,.0f} MB",
            f"{other['floor_s']:,.2f} s",
            *(f"{end:.2f}" for end in other["ratio_at_ends"]),
        ]
        for other in others
    ]
    return say(
        "one device",
        iterations=data["iterations"],
        weights=data["encoder_weights"],
        width=WIDTH,
        bandwidth=BANDWIDTH_HZ / 1e6,
        tokens=PROMPT_TOKENS,
        prompt_bits=data["prompt_bits"],
        device_ms=1e3 * fit["device_s"],
        tflops=data["server_flops"] / 1e12,
        raw_mb=sizes[0],
        at_ten=ratio[at],
        deft_ten=deft[at],
        central_ten=centralised[at],
        gap_low=gap[0],
        gap_ten=gap[at],
        gap_high=gap[-1],
        low=snr_db[0],
        high=snr_db[-1],
        ratio_low=ratio[0],
        ratio_high=ratio[-1],
        floor=fit["floor_s"],
        deft_high=deft[-1],
        local=fit["floor_s"] / deft[-1],
        uploading=uploaded[0],
        uploading_high=uploaded[1],
        rows=rows(lines),
        least=min(sizes),
        most=max(sizes),
    )


def many_devices() -> str:
    once = float(
        lola.air.frequency_division_s(PROMPT_VALUES, DEVICES, snr_db=FUSION_DB, bandwidth_hz=BANDWIDTH_HZ, bits=BITS)
    )
    summed = lola.air.air_computation_s(PROMPT_VALUES, bandwidth_hz=BANDWIDTH_HZ)
    ratio = BITS * DEVICES / float(spectral_efficiency(FUSION_DB))
    claim(abs(once / summed - ratio) < 1e-9 * ratio, "the ratio is the closed form's")
    lines = [
        [str(epochs), f"{epochs * EPOCH * once:,.0f} s", f"{epochs * EPOCH * summed:,.0f} s", f"{once / summed:.2f}"]
        for epochs in (1, 5, 10, 15, 20)
    ]
    return say(
        "many devices, latency",
        devices=DEVICES,
        snr=FUSION_DB,
        bits=BITS,
        iterations=EPOCH,
        rows=rows(lines),
        ratio=ratio,
    )


def trials(results: Record) -> str:
    seeds = {run["seed"] for part in results.values() for run in part.get("runs", ())}
    claim(TRIED not in seeds, "the seed of the trials is not among those of the tables")
    return say("trials", seed=TRIED)
