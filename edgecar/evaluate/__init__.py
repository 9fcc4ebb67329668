"""Picture quality: measures and the studies that print them."""
