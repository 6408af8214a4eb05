"""What a training process ends with beside 0 (done), 1 (the answer is no) and 2 (the user can fix it)."""

REQUEUE = 85
"""The run hangs or was asked to go on later: start it again with --resume."""
SUPERSEDED = 86
"""A newer attempt has the run folder: do not start this one again."""
EXIT_FILE = "MSVL_EXIT_FILE"
"""Environment variable of a launcher: the file where the exit code is left that torchrun or accelerate replace by 1."""
