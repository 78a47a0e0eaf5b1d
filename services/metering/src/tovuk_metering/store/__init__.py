"""Plain SQL over the kit's transactions, one file per noun; SQLite and PostgreSQL both take it."""
