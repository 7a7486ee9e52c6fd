"""Optimal block and bandwidth allocation for fine-tuning one transformer across many devices.

``lola docs`` lists the pages behind the docstrings, and ``lola docs theory`` prints one.

Names are imported when they are first used: ``import lola`` alone loads neither numpy nor numba.
"""

from pathlib import Path

from lola._lazy import attach, find_packages

find_packages(Path(__file__).parent)

__getattr__, __dir__, __all__ = attach(__name__, __file__)
