"""What at least three services share and that has no product noun."""
