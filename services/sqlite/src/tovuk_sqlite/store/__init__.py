"""Where databases are kept: a catalog of them, and an engine for their files."""
