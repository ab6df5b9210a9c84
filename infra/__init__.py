"""AWS: the app, container files, the capacity and cost model. Nothing of ours is imported here."""
