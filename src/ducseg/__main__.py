"""`python -m ducseg` and `torchrun -m ducseg`."""

import sys

from ducseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
