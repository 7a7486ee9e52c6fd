"""A transformer as depths: its blocks from the output, their LoRA, and what a depth trains.

Names are imported when they are first used; torch (``lola-deft[torch]``) is needed when they run.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
