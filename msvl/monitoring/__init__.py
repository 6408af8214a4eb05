"""What a run tells people and machines while it goes on."""
