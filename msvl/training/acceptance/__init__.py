"""What the ranks of an acceptance measure on a user's own machines; launch/acceptance starts them and judges."""
