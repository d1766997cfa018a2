"""What a command does: options in, a run folder out."""
