"""Pictures and event files; matplotlib waits until one is drawn."""
