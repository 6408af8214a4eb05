"""What `python -m launch.accept` does: which checks there are, where their ranks run, and the page that tells of them."""
