"""Tests of stream_enhance.evidence."""
