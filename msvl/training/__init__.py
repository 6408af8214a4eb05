"""One loop, one engine, one root module, checkpoints that survive a kill."""
