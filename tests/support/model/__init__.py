"""A world in which the metering protocol is explored."""
