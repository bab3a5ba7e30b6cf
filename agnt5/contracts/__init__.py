"""What every layer shares: errors, ids, the vocabulary of runs, settings. No I/O."""
