"""The three-stage training protocol: stages, training loop, projection and checkpoints."""
