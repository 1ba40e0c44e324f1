"""Search in a video: windows, their embeddings beside those of texts, and the moments that fit a text."""
