"""The HTTP door of the proxy."""
