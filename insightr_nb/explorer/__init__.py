"""The explorer of notebook 07: an ipywidgets application on the stored files of a finished run."""
