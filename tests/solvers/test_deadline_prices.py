"""Prices of devices in hertz: what they show is exact, however large they are."""

from fractions import Fraction

import numpy as np
from deadline_rounds import FAMILIES, instance

from lola.solvers.deadline_options import deadline_inputs, options_of
from lola.solvers.deadline_proof import bounds


def test_large_device_prices_lose_no_bit_of_a_need(instances):
    """At the least need, rounded once, a choice may fit; a float below it, none does."""
    rng, shown = np.random.default_rng(60), 0
    for number in range(instances(200)):
        arguments, *_ = instance(rng, 3, 5, 2, FAMILIES[number % len(FAMILIES)])
        options = options_of(deadline_inputs(**arguments, deadline_s=2.0, min_rank=0, equal_bandwidth=False))
        box = np.arange(options.block.size)
        prices = 10 ** rng.uniform(-3, 20, 5) * (rng.random(5) < 0.8)
        of_device = [*map(Fraction, prices.tolist()), Fraction(0)]
        needs = zip(options.need.tolist(), options.device.tolist(), strict=True)
        priced = [Fraction(need) + of_device[device] for need, device in needs]
        by_block = [[priced[i] for i in np.flatnonzero(options.block == block)] for block in range(3)]
        if not all(by_block):
            continue
        least = float(sum(map(min, by_block)) - sum(of_device))
        for bandwidth, bound in ((least, np.inf), (np.nextafter(least, -np.inf), -np.inf)):
            assert bounds(options._replace(bandwidth=bandwidth), box, np.inf, prices)[0] == bound
        shown += 1
    assert shown > 10
