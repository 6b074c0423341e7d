"""`python run_recbole.py --model=RPORec --dataset=ml-100k`; the same as the installed command `rporec`."""

import sys

from rporec_recbole.cli import main

if __name__ == "__main__":
    sys.exit(main())
