"""Running generations, and subscriptions to them.

`registry` knows what this process runs. `send_policy` begins a generation, `writer` runs it,
`running` holds its events, `subscription` writes them to a client's `sink`. `log_writer` and
`log_follower` carry them to the other processes, through the database. `joining`, `stopping` and
`deletion` are what clients ask for besides; `leases`, `recovery`, `takeover`, `stalls`, `clocks`,
`sweeping` and `drain` go on in the background.
"""
