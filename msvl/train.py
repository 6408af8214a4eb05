"""Train: `accelerate launch msvl/train.py --config FILE [key.path=value ...]`, torchrun, or `python -m msvl.train`."""

import os
import sys

if not __package__:  # run by path: keep msvl/'s own folders from hiding other packages
    package_dir = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(package_dir)] + [p for p in sys.path if os.path.abspath(p) != package_dir]
from msvl.training.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
