"""Frames in, restored frames out, through tiles of bounded size."""
