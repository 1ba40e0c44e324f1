"""Many questions in one file, answered when nobody else asks."""
