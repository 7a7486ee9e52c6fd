"""A small importance of three blocks, for tests of ranks and of their files."""

import lola

PROVENANCE = lola.Provenance("toy", 8, 64, "float32", "measured", "nobody's phone", lora_rank=3)
GAIN = [[9.0, 4.0, 1.0], [6.0, 3.0, 2.0], [5.0, 0.5, 0.25]]


def toy(**changes):
    named = {"gain": GAIN, "cost": [100, 100, 100], "fixed_bits": [5e4, 0, 0], "name": ["c", "b", "a"]}
    return lola.Importance(**(named | {"rank_bits": [1e5, 1e5, 1e5], "provenance": PROVENANCE} | changes))
