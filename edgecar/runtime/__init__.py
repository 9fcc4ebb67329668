"""Frames in, restored frames out, through windows of bounded size."""
