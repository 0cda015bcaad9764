"""Answers that are made up: plausible data for any query, of its parameters and a seed."""
