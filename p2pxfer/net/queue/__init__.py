"""What is to be sent later or was not through: its files, and who carries it out."""
