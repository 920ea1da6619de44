"""batcher."""
