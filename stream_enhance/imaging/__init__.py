"""Frames' planes, pixel formats, colour tags and face crops: pure functions on frames and arrays."""
