"""Plain SQL that SQLite and PostgreSQL both take, one module a table; nothing here decides."""
