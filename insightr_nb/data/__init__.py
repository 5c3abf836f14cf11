"""Data pipeline: from raw photographs to training batches."""
