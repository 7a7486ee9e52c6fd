"""``python -m lola``: the same as the command ``lola``."""

import sys

from lola.cli import start

sys.exit(start())
