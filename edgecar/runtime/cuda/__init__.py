"""The tiled runtime on NVIDIA GPUs."""
