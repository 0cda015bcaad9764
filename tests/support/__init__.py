"""What several tests share: servers, clients' environments, scripted dispatchers, samples."""
