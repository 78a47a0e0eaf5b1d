"""SQLite databases of tenants: queries and batches, metered to the row, each in a file of its own."""
