"""The embedded engine: llama.cpp in this process, and the model file that it runs."""
