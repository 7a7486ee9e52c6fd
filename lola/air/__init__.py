"""The uplink as a channel that sums: what it costs in seconds, and what it does to what is sent.

Names are imported when they are first used.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
