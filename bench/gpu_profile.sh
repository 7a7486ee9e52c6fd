#!/usr/bin/env bash
# Measures on one CUDA device what needs one: RoBERTa-base in fp32, fp16 and bf16, and a Llama-type 1B and 7B in bf16;
# estimates the same, and writes profiles, a figure and a table of estimate against measurement into a folder.
# One call, under ten minutes, no downloads, nothing installed: it runs from the checkout with the torch (2.11 or newer),
# transformers 5, peft and numpy that are there, and needs no numba.
#
#     bench/gpu_profile.sh [folder]      (default: bench/gpu)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-bench/gpu}
mkdir -p "$out"
export HF_HUB_OFFLINE=1 PYTHONPATH=$PWD
exec "${PYTHON:-python3}" bench/gpu_profiles.py "$out"
