"""The explorer of notebook 07: an ipywidgets application over the stored files of a finished run."""
