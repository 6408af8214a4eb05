#!/bin/bash -l
# Judge a run: sbatch slurm/evaluate.sh RUN [--plan configs/evaluate/paper.yaml], typed in the checkout: one job per cell of
# the plan, then a table. This small job submits them and ends;
# `bash slurm/evaluate.sh` does the same without it.
#SBATCH --job-name=msvl-submit --nodes=1 --ntasks=1 --cpus-per-task=1 --time=10
#SBATCH --output=slurm-evaluate-%j.txt
set -eo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
source slurm/cluster.env
[ -z "$MODULES" ] || module load $MODULES
exec "${LAUNCH_PYTHON:-$PYTHON}" -m launch.evaluate "$@"
