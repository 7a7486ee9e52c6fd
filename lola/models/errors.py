"""What is wrong with a model."""

from lola.solvers.errors import LolaValueError


class ModelError(LolaValueError):
    """A model cannot be split into depths, adapted or run; the message says where, why, and what to change."""
