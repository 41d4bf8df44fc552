"""Training of the networks, and their way into the zoo."""
