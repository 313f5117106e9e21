"""What is measured of a state, and the names it is stored under."""
