"""Files of a new workspace, as they are, but for the names of those that begin with a dot."""
