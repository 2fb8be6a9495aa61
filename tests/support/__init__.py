"""What tests stand on: scripted neighbours, the service as a process, a client."""
