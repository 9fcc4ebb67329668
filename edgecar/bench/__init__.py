"""Cost and speed of networks, result files, and the tables made from them."""
