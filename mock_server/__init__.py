"""A mock of the ODA/MMODA dispatcher, answering from fixtures."""
