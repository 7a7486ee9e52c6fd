"""What methods cannot heed: each says of a problem in a few words why it does not suit, or nothing."""

import numpy as np

from lola.problem import Problem


def no_subcarriers(problem: Problem) -> str:
    """Know no whole subcarriers."""
    return "" if problem.subcarrier_hz is None else "knows no whole subcarriers"


def no_pairs(problem: Problem) -> str:
    """Know no pinned and forbidden pairs."""
    return "" if problem.allowed is None else "knows no pinned or forbidden pairs"


def equal_uploads(problem: Problem) -> str:
    """Want uploads that do not differ."""
    bits = problem.profile.upload_bits
    return "wants the same upload for every block" if (bits != bits[0]).any() else ""


def rising_uploads(problem: Problem) -> str:
    """Want uploads that do not fall with depth."""
    return "wants uploads that do not fall with depth" if (np.diff(problem.profile.upload_bits) < 0).any() else ""
