"""The training module: corpus, data, losses, loops."""
