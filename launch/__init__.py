"""The launchers: from the checkout to Slurm and back. They are not installed; see docs/cluster.md."""

from launch.requirements import check_python

check_python()  # here, because nothing else comes before the imports of `python -m launch.NAME`
