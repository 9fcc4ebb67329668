"""What networks cost and how fast they run; result files and the tables made from them."""
