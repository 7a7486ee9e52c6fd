"""What is wrong with a model."""


class ModelError(ValueError):
    """A model cannot be split into depths, adapted or run; the message says where, why, and what to change."""
