#!/bin/bash -l
# Prove msvl on this cluster's own nodes: sbatch slurm/accept.sh, typed in the checkout: checks in about ten minutes, then a page
# that can be published. This small job submits the real one (its number is the last line of slurm-accept-*.txt) and ends;
# `bash slurm/accept.sh` does the same without it.
#SBATCH --job-name=msvl-submit --nodes=1 --ntasks=1 --cpus-per-task=1 --time=10
#SBATCH --output=slurm-accept-%j.txt
set -eo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
source slurm/cluster.env
[ -z "$MODULES" ] || module load $MODULES
exec "${LAUNCH_PYTHON:-$PYTHON}" -m launch.accept "$@"
