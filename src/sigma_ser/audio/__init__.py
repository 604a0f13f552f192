"""Reading audio: one way to 16 kHz mono float32, every fault typed. Imports core."""
