"""Students trained from scratch on condensed sets, and what they are compared with."""
