"""What a workspace is asked to be: parameters, protocols and presets."""
