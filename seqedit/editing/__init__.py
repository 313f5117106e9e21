"""From requests and settings to an adapter; presets."""
