"""What metering guarantees: caps that hold, usage billed once, figures people can rely on. No I/O but a transaction."""
