#!/bin/bash
# The install steps of both images: bash install.sh PYTHON, in a folder that holds setup.py and constraints.txt.
# Jobs run msvl from their run's own snapshot, so only what msvl needs is installed, and editing code rebuilds nothing.
set -euo pipefail
python=$1
"$python" -m pip install --no-cache-dir --disable-pip-version-check "$(grep -o '^torch==[0-9.]*' constraints.txt)"
"$python" -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[remote]"
"$python" -m pip check
