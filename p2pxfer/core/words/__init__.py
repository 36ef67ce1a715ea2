"""What happened, in words for people: commands and agents say it alike."""
