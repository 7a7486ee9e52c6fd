"""What a depth costs: measured, estimated, and judged. Needs no numba; torch is imported when something runs.

Names are imported when they are first used.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
