"""Optimal block and bandwidth allocation for fine-tuning one transformer across many devices."""

from pathlib import Path

# In a checkout, solvers/ and profiling/ stand beside this folder; installed, they are inside it.
_HERE = Path(__file__).parent
if not (_HERE / "solvers").is_dir():
    if not (_HERE.parent / "solvers").is_dir():
        raise ImportError(
            f"lola at {_HERE} is incomplete: its solvers are missing. Import it from a whole checkout, or install it "
            "with 'pip install .' from the checkout's root"
        )
    __path__.append(str(_HERE.parent))
