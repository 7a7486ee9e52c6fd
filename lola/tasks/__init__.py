"""What is learnt: texts and their labels, and a classifier that takes them.

Names are imported when they are first used; torch (``lola-deft[train]``) is needed when they run.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
