"""Published checkpoint layouts, strict loading, fingerprints."""
