"""Training: configuration, loop, loss, schedule, checkpoints, ranks."""
