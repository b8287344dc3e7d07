"""From words to a live model with data, and from an artifact on disk to something that runs."""
