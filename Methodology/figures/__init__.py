"""One function a figure, one style; computes nothing that a table should hold."""
