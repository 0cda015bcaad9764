"""What a person does with recordings on the command line."""
