"""What is measured: each target starts real processes, is filled, answers the operations, and is stopped."""
