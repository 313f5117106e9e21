"""The Python front door: the session that users hold, with every operation of the command line as a method."""
