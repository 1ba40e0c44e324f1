"""CLIP text tower and tokenizer, for retrieval and training."""
