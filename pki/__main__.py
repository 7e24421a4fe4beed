"""`pki` and `python -m pki`."""

import sys

from pki.cli import main

if __name__ == "__main__":
    sys.exit(main())
