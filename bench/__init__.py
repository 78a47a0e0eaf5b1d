"""What the product's speed is, measured beside its peers and its limits in one run (README.md)."""
