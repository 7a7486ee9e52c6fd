"""The air between devices and server: uplinks that sum what several devices send, and layers that the radio computes.

Names are imported when they are first used; torch (``lola-deft[torch]``) is needed when they run.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
