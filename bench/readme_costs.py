"""The README's lines on costs, made of what was measured."""

import math
import textwrap

FIRST, LAST = "<!--costs-->\n", "<!--end-->\n"


def lines(results: dict) -> list[str]:
    """Say in three lines what results.json holds; every number is of one run."""
    each, city = results["batch"]["seconds_each"], results["city"]["seconds"]
    single, python = each["joint_allocation, one by one"], each["numpy + scipy Newton"]
    scip = results["scip"]["cases"][-1]
    return [
        f"One round of 20 devices and 12 blocks: {1e6 * single:.0f} µs, {python / single:.0f} times as fast as the "
        f"same method in numpy and scipy; in a batch of {results['batch']['rounds']:,} rounds on "
        f"{results['batch']['threads']} cores, {python / each['batch']:.0f} times.",
        f"A city of {results['city']['devices']:,} devices: `block_allocation` takes "
        f"{_reads(city, 'block_allocation'):.0f} times, `joint_allocation` {_reads(city, 'joint_allocation'):.0f} "
        "times as long as reading the fleet once.",
        f"SCIP on {scip['size'][0]} devices and {scip['size'][1]} blocks, the largest case that it finishes in a "
        f"minute: over {10 ** int(math.log10(scip['scip_s'] / scip['ours_s'])):,} times as long.",
    ]


def _reads(seconds: dict[str, float], solver: str) -> float:
    """Return a solver's time on its first fleet, in units of reading the fleet once."""
    return next(value for name, value in seconds.items() if name.split(",")[0] == solver) / seconds["read"]


def filled(page: str, results: dict) -> str:
    """Return a page with the lines between their marks."""
    before, rest = page.split(FIRST)
    after = rest.split(LAST)[1]
    text = "\n".join(textwrap.fill(f"* {line}", 120, subsequent_indent="  ") for line in lines(results))
    return f"{before}{FIRST}{text}\n{LAST}{after}"
