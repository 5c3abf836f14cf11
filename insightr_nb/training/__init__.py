"""The three-stage protocol: stages, loop, projection, checkpoints."""
