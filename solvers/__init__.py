"""Arrays in, arrays out: the solvers of lola, with a proof beside every answer.

Names are imported when they are first used, so that what needs no compiled solver need not load numba.
"""

from lola._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
