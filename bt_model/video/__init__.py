"""Video files to uint8 frames with their source indices and timestamps."""
