"""The workflow of `agnt5 demo`: reads a folder of text files and writes a report about them."""
