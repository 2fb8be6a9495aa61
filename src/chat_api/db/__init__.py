"""PostgreSQL: connections, schema, and every statement."""
