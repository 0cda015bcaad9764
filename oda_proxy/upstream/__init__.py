"""Who can be asked for an answer."""
