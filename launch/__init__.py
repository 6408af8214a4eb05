"""The launchers: from the checkout to Slurm and back. They are not installed; see docs/cluster.md."""
