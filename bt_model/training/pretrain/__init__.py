"""Video-text pre-training: clips and captions, masks, three losses, any number of devices."""
