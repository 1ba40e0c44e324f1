"""`make image-check`: the image is built and its containers are tried under compose's own restrictions."""
