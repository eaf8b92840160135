"""A trained network behind HTTP, and the page that people use it with."""
