"""From Python to the compiled program: the plan, the session on a device, its threads."""
