"""From planned statements to the source of a training program."""
