"""Frames out: one encoder, any number of muxers, image folders, the gallery."""
