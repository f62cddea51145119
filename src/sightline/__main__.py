"""`python -m sightline` is the command line where no script folder is on the path."""

import sys

from sightline.cli import main

if __name__ == "__main__":
    sys.exit(main())
