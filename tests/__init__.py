"""The tests: a folder for each package, clients that are not ours in `clients`, what they share in `support`."""
