"""Our generation engine beside others, in one run."""
