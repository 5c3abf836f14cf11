"""INSightR-Net (Hesse and Namburete, MICCAI 2022): regression that explains itself by prototypes."""

__version__ = "0.1.0"
