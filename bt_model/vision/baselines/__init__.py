"""The temporal models that the paper compares BT-Adapter with, one a file.

ST pooling has no file: it is CLIP's frames behind the pooling `temporal_spatial` (vision/pool.py).
"""
