"""What commands and training processes end with. 0: done; anything that does not stand here is our fault."""

ANSWER_IS_NO = 1
"""A leak was found, a checkpoint is damaged, numbers differ by more than they may."""
USERS_TO_FIX = 2
"""The user can fix it: the last line says how."""
REQUEUE = 85
"""The run hangs or was asked to go on later: start it again with --resume."""
SUPERSEDED = 86
"""A newer attempt has the run folder: do not start this one again."""
EXIT_FILE = "MSVL_EXIT_FILE"
"""Environment variable of a launcher: the file where the exit code is left that torchrun or accelerate replace by 1."""
