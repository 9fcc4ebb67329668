"""The service beside the cameras: restored streams out, an HTTP API and a page to look at."""
