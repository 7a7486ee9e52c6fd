"""Devices that are machines of their own: rounds over an MQTT broker. Needs ``lola-deft[devices]`` when it runs.

Names are imported when they are first used.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
