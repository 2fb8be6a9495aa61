"""Which conversations are visible: those that have not expired, whether swept or not."""

# Of whatever relation in a statement is `conversations`; the clock is the database's.
VISIBLE = "(expires_at IS NULL OR expires_at > now())"
