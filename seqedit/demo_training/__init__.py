"""The script that trained the shipped demo models; nothing imports it."""
