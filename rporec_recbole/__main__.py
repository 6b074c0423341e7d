"""`python -m rporec_recbole`: the command `rporec`, where the folder of installed commands is not on the path."""

import sys

from rporec_recbole.cli import main

sys.exit(main())
