#!/bin/bash -l
# Train: sbatch slurm/pretrain.sh [CONFIG] [key.path=value ...], typed in the checkout. Without CONFIG: the one that
# slurm/cluster.env names. This small job submits the real one (its number is the last line of slurm-pretrain-*.txt) and ends;
# `bash slurm/pretrain.sh` does the same without it.
#SBATCH --job-name=msvl-submit --nodes=1 --ntasks=1 --cpus-per-task=1 --time=10
#SBATCH --output=slurm-pretrain-%j.txt
set -eo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
source slurm/cluster.env
[ -z "$MODULES" ] || module load $MODULES
exec "${LAUNCH_PYTHON:-$PYTHON}" -m launch.pretrain "$@"
