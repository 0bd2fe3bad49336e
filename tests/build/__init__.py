"""Dockerfiles built by BuildKit and by ours, the results compared: configuration, history, every entry of the tree."""
