"""Training: the loss, the data, and a resumable loop."""
