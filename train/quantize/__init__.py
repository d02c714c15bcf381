"""The networks in 8-bit integers: `python -m train.quantize`."""
