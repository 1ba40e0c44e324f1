"""Frames, times and colours of every kind of file beside those of the ffmpeg program: `make videos`."""
