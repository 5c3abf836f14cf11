"""The network: backbone, block, prototype layer, weighted mean, losses."""
