"""Which conversations are visible: those that have not expired, whether swept or not."""

# The condition on rows of `conversations`. The clock is the database's.
VISIBLE = "(expires_at IS NULL OR expires_at > now())"
