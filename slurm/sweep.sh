#!/bin/bash -l
# Sweep: sbatch slurm/sweep.sh configs/sweep/ablation.yaml, typed in the checkout: one run per cell, their judgement, and a
# table. This small job submits them and ends;
# `bash slurm/sweep.sh` does the same without it.
#SBATCH --job-name=msvl-submit --nodes=1 --ntasks=1 --cpus-per-task=1 --time=10
#SBATCH --output=slurm-sweep-%j.txt
set -eo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
source slurm/cluster.env
[ -z "$MODULES" ] || module load $MODULES
exec "${LAUNCH_PYTHON:-$PYTHON}" -m launch.sweep start "$@"
