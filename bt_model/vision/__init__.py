"""CLIP trunk, BT-Adapter branch and the pooling that follows them."""
