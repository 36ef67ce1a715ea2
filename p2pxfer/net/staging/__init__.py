"""The receiver's disk: what is not whole yet, its journal, and the last step to the names that a user sees."""
