"""`python -m fasthebb`."""

import sys

from fasthebb.cli import main

sys.exit(main())
