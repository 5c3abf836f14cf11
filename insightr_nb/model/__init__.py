"""The network: backbone, convolutional block, prototype layer, weighted mean and losses."""
