"""Setting up, checking and taking down; standard library only, since they run before anything is installed."""
