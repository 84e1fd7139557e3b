"""The configuration of a workspace: parameters, protocols and presets."""
