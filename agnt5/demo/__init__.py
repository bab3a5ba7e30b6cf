"""The workflows of `agnt5 demo`: one reads a folder and writes a report about it, one deploys when people say yes."""
