"""Mechanism of configuration and the errors that a user can fix. Nothing here imports torch."""
