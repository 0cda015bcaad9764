"""A mock of the ODA/MMODA dispatcher, answering from fixtures."""

from mock_server.settings import MockSettings, fixtures_folder

__all__ = ["MockSettings", "fixtures_folder"]
