"""``python -m lola``: the same as the command ``lola``."""

import sys

from lola.cli.main import main

sys.exit(main())
