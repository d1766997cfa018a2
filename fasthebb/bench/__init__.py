"""What is timed, against what, and the table it prints."""
