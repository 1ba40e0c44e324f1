"""From annotation files to batches: which clip, which frames, which part of them, and who decodes them."""
