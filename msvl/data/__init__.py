"""From a source data set to shards, and from shards to batches. Never asks the process group who it is."""
