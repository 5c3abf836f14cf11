"""From raw photographs to batches."""
