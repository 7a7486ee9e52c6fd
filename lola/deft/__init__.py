"""Federated fine-tuning with prompts, emulators and the air: the systems of DEFT in torch.

Names are imported when they are first used; torch (``lola-deft[torch]``) is needed when they run.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
