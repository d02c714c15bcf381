"""The detector measured beside others."""
